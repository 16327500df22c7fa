"""FORCE: minus weight times gradient, so that its sign says whether removing the weight helps."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "force",
    summary="Minus weight times gradient: the first-order change of the loss when the weight is set to zero, with "
    "its sign.",
    reference="de Jorge et al. 2020, Progressive Skeletonization: Trimming more fat from a network at "
    "initialization, arXiv:2006.09081; sign as in code 0-ml/speft",
    needs=("grad",),
    cost="1 backward",
    signed=True,
    note="Left out: the paper prunes step by step and computes the score anew after each; this is the score of "
    "one step.",
    granularity="element",
)
def force(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """-w g: above zero where removing the weight raises the loss to first order.

    `snip` is its absolute value.

    Raises:
        WorkbenchError: the weight or the gradient holds NaN or infinity, or the gradient was not collected.
    """
    check_finite(weight, "the weight")
    gradient = stats.get("grad")
    check_finite(gradient, "the gradient")
    return -(weight.float() * gradient).float()
