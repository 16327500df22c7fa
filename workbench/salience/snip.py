"""SNIP: what the loss changes, to first order, when the weight is removed."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "snip",
    summary="Absolute weight times gradient: the first-order change of the loss when the weight is set to zero.",
    reference="Lee et al. 2018, SNIP: Single-shot Network Pruning based on Connection Sensitivity, arXiv:1810.02340",
    needs=("grad",),
    cost="1 backward",
    note="The paper divides by the sum over the whole network and scores before training; here the trained "
    "weights are scored and nothing is divided, so that scores stay in nats.",
    granularity="element",
)
def snip(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """|w g|. Its square is `taylor`, so both give the same masks; `force` is the same with its sign.

    Raises:
        WorkbenchError: the weight or the gradient holds NaN or infinity, or the gradient was not collected.
    """
    check_finite(weight, "the weight")
    gradient = stats.get("grad")
    check_finite(gradient, "the gradient")
    return (weight.float() * gradient).abs().float()
