"""Position: the model-free yardstick that later tokens matter more (or earlier ones); a map should do better."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.spans import label_spans
from workbench.attribution.targets import Target
from workbench.registry import attribution


@attribution.register(
    "position",
    summary="How late the token stands (or how early); a yardstick that never asks the model.",
    reference="ours: a baseline for comparisons",
    cost="f + run",
    note="Model-free: the same for every model and target.",
    uses_target=False,
)
def position(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target, *, most: Literal["last", "first"] = "last"
) -> Attribution:
    """Scores [tok] that grow evenly over the content, from 1 / tokens to 1; 0 at control tokens.

    Args:
        adapter: the tokenizer, and the model for `value`.
        ids: the prompt.
        target: F, for `value`.
        most: the end of the prompt that scores most.
    """
    labels = label_spans(adapter, ids, "token")
    content = labels >= 0
    count = max(int(content.sum()), 1)
    place = labels.double()
    grown = (place + 1 if most == "last" else count - place) / count
    return Attribution(
        grown * content,
        float(adapter.values(adapter.embed(ids), target.value)),
        held_fixed=tuple((~content).tolist()),
        notes=(*target.notes, "these scores say where a token stands; the model was not asked for them"),
    )
