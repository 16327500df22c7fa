"""Gradient times input: score_i = sum_d x_id dF/dx_id, after Shrikumar, Greenside, Shcherbina and Kundaje 2016.

The scores of a linear F add up to F. A network whose first norm takes the length of its input away has F(a x) = F(x),
and Euler's theorem then makes the scores add up to nothing, however much the tokens matter; the share that they do add
up to is given.
"""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution, relative_gap
from workbench.attribution.targets import Target
from workbench.registry import attribution

FEW = 0.1
"""A sum below this share of F gets a warning."""


@attribution.register(
    "input_x_gradient",
    summary="The first-order share of each token in the target, with its sign.",
    reference="Shrikumar, Greenside, Shcherbina, Kundaje 2016, arXiv:1605.01713",
    signed=True,
    cost="f + b",
    note="On models with RMSNorm the scores add up to little of the target: prefer linearised or integrated gradients.",
)
def input_x_gradient(adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target) -> Attribution:
    """Signed scores [tok]; the completeness gap is F(x) - sum(scores)."""
    embeds = adapter.embed(ids)
    values, slope = adapter.gradients(embeds, target.value)
    scores = (embeds.double() * slope.double())[0].sum(-1).cpu()
    value, total = float(values), float(scores.sum())
    return Attribution(
        scores,
        value,
        completeness_gap=value - total,
        relative_gap=relative_gap(value - total, value),
        notes=target.notes + _about_scale(value, total),
    )


def _about_scale(value: float, total: float) -> tuple[str, ...]:
    """The warning that belongs to scores whose sum says nothing about F."""
    if abs(total) >= FEW * abs(value):
        return ()
    return (
        f"the scores add up to {total:.3g} of a target of {value:.3g}: this model answers alike at any scale of its"
        " input, so gradient x input explains little of it; linearised and integrated_gradients do not have this fault",
    )
