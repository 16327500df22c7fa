"""GraSP: how removing the weight changes the flow of the gradient."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "grasp",
    summary="Weight times Hessian times gradient: half the change of the squared gradient norm per relative "
    "change of the weight.",
    reference="Wang et al. 2020, Picking Winning Tickets Before Training by Preserving Gradient Flow, "
    "arXiv:2002.07376; sign as in code 0-ml/speft",
    needs=("hessian_gradient",),
    cost="1 backward and 1 Hessian product",
    signed=True,
    note="The paper scores -w Hg at initialization, divides the logits by a temperature of 200 and takes the "
    "Hessian over all parameters; here the trained weights are scored without a temperature, over the "
    "quantizable matrices.",
    granularity="element",
)
def grasp(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """w (H g): above zero where shrinking the weight lowers the gradient norm of the loss to first order.

    The derivative of ||g||^2 along w is 2 H g.

    Raises:
        WorkbenchError: the weight or the gradient holds NaN or infinity, or the gradient was not collected.
    """
    check_finite(weight, "the weight")
    product = stats.get("hessian_gradient")
    check_finite(product, "the Hessian times the gradient")
    return (weight.float() * product).float()
