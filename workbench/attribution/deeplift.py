"""DeepLIFT: what each token's difference from a baseline passes on to the difference of the target.

Shrikumar, Greenside and Kundaje 2017, with rules for the products of a transformer as well (`rules`). The multipliers
come from one forward and one backward pass of the prompt and the baseline together, in eager attention, and the scores
add up to F(x) - F(x') by algebra, not by convergence. Captum's class of this name has no rule for the activations,
norms and products of a transformer, and returns gradient x difference there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName, make_baseline
from workbench.attribution.patches import Rules, ruled
from workbench.attribution.path import held_note
from workbench.attribution.result import Attribution, relative_gap
from workbench.attribution.rules import DIFFERENCES, rounding_note
from workbench.attribution.tap import eager_attention
from workbench.attribution.targets import Target
from workbench.registry import attribution


@attribution.register(
    "deeplift",
    summary="How each token's difference from a baseline passes through the network to the target, with its sign.",
    reference="Shrikumar, Greenside, Kundaje 2017, arXiv:1704.02685",
    signed=True,
    cost="2 (f + b) + 6 run, 2 at a time, eager attention",
    note="Rescale rule, and rules of our own for products, norms and softmax. Control tokens are held fixed. A network"
    " with an operation that has no rule is refused.",
)
def deeplift(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target, *, baseline: BaselineName = "auto"
) -> Attribution:
    """Signed scores [tok] that add up to F(x) - F(x') but for rounding.

    Raises:
        WorkbenchError: a baseline that this model does not have, or an operation without a rule.
    """
    embeds = adapter.embed(ids)
    start = make_baseline(adapter, ids, embeds, baseline)

    def of_the_prompt(logits: Float[Tensor, "pair *read vocab"]) -> Float[Tensor, " pair"]:
        values = target.value(logits)
        return torch.cat([values[:1], values[1:].detach()])

    with eager_attention(adapter.model), ruled(adapter.model, Rules("deeplift", DIFFERENCES)):
        values, multipliers = adapter.gradients(torch.cat([embeds, start.embeds]), of_the_prompt)
    scores = ((embeds - start.embeds)[0].double() * multipliers[0].double()).sum(-1).cpu()
    value, base = values.tolist()
    gap = value - base - float(scores.sum())
    relative = relative_gap(gap, value - base)
    return Attribution(
        scores,
        value,
        baseline_value=base,
        completeness_gap=gap,
        relative_gap=relative,
        baseline=start.name,
        held_fixed=tuple(start.held_fixed.tolist()),
        notes=(*target.notes, *held_note(start.held_fixed), *rounding_note(relative)),
    )
