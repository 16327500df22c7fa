"""First order: what the gradient at the full weights says of a quantization."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "first_order",
    summary="Gradient times quantization step: the change of the loss to first order, weight by weight, with its sign.",
    reference="First-order term that PQI (arXiv:2503.01901) holds itself against; LeCun et al. 1989, Optimal Brain "
    "Damage, NIPS 2",
    needs=("grad", "quantized"),
    cost="1 backward",
    signed=True,
    note="A trained model stands near a minimum, so this is small and may have the wrong sign.",
    compares_quantized=True,
    granularity="element",
)
def first_order(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """g (q - w). Its sum over all matrices is the first-order prediction of the change of the mean token loss, nats.

    Raises:
        WorkbenchError: the weight or a statistic holds NaN or infinity, or was not collected.
    """
    check_finite(weight, "the weight")
    gradient, quantized = stats.get("grad"), stats.get("quantized")
    check_finite(gradient, "the gradient")
    check_finite(quantized, "the quantized weight")
    return (gradient * (quantized - weight)).float()
