"""Raw attention: how much the last position looks at each token, over the heads and layers.

Attention probabilities are a part of the computation, not an explanation of its outcome (Jain and Wallace 2019); they
are shown because everybody asks for them. Left out: a map for every head, and the marking of attention sinks.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError
from workbench.registry import Range, attribution

ALL_LAYERS = -1
CAUTION = "attention says where the model looks, not what its answer rests on; it is the same for every target"


@attribution.register(
    "attention",
    summary="How much the last position attends to each token; the same for every target.",
    reference="Jain, Wallace 2019, arXiv:1902.10186 (on what it does not say)",
    cost="f + run, eager attention",
    note="Heads and layers are reduced alike. Layer -1 means all layers; layers count from 0.",
    uses_target=False,
    reads_attention=True,
)
def attention(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    reduce: Literal["mean", "max"] = "mean",
    layer: Annotated[int, Range(ALL_LAYERS, 999)] = ALL_LAYERS,
) -> Attribution:
    """Scores [tok] in [0, 1]: the last row of the attention probabilities; with `mean` they add up to 1.

    Of a target at several positions it is the mean of the rows that are read.

    Raises:
        WorkbenchError: the model has no such layer, or does not show its attention.
    """
    rows: list[Tensor] = []

    def keep(index: int, probabilities: Tensor) -> None:
        if layer in (ALL_LAYERS, index):
            rows.append(_reduce(probabilities[:, list(adapter.layout.rows)].double().mean(1), reduce))

    logits = adapter.attentions(ids, keep)
    if not rows:
        last = adapter.model.config.get_text_config().num_hidden_layers - 1
        raise WorkbenchError(
            f"option 'layer' of 'attention' has value {layer}; the layers are 0 to {last}, or -1 for all"
        )
    scores = _reduce(torch.stack(rows), reduce).cpu()
    return Attribution(scores, float(target.value(logits)), notes=(*target.notes, CAUTION))


def _reduce(maps: Tensor, how: str) -> Tensor:
    """The mean or the largest over the first axis."""
    return maps.mean(0) if how == "mean" else maps.amax(0)
