"""Gradient: a weight matters as much as the loss changes with it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "gradient",
    summary="Absolute gradient of the mean token loss: how much a small change of the weight changes the loss.",
    reference="Metric gradient of SPEFT (code 0-ml/speft); Evci et al. 2019, Rigging the Lottery, arXiv:1911.11134",
    needs=("grad",),
    cost="1 backward",
    granularity="element",
)
def gradient(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """|g|, the gradient of the mean over all windows: the sum is taken before the absolute value.

    The size of the weight takes no part in it; `snip` multiplies by it.

    Raises:
        WorkbenchError: the weight or the gradient holds NaN or infinity, or the gradient was not collected.
    """
    check_finite(weight, "the weight")
    gradient = stats.get("grad")
    check_finite(gradient, "the gradient")
    return gradient.float().abs()
