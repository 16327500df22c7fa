"""Second order: gradient and exact Hessian along the quantization step."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "second_order",
    summary="Gradient and half the Hessian times the step, times the step: the change of the loss to second "
    "order, with its sign.",
    reference="Quadratic model of the loss as in LeCun et al. 1989, Optimal Brain Damage, NIPS 2, with the whole "
    "Hessian by Hessian-vector products",
    needs=("grad", "quantized", "hessian_step"),
    cost="1 backward and 1 Hessian product",
    signed=True,
    note="Exact Hessian of the mean token loss over all matrices, no Gauss-Newton and no diagonal.",
    compares_quantized=True,
    granularity="element",
)
def second_order(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """(g + 1/2 H d) d with d = q - w, H d over all matrices at once.

    Its sum over all matrices is the second-order prediction of the change of the mean token loss, nats. Interactions
    between weights are shared out evenly.

    Raises:
        WorkbenchError: the weight or a statistic holds NaN or infinity, or was not collected.
    """
    check_finite(weight, "the weight")
    gradient, quantized = stats.get("grad"), stats.get("quantized")
    check_finite(gradient, "the gradient")
    check_finite(quantized, "the quantized weight")
    product = stats.get("hessian_step")
    check_finite(product, "the Hessian times the quantization step")
    return ((gradient + product / 2) * (quantized - weight)).float()
