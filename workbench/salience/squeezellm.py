"""SqueezeLLM: the squared quantization error, weighed by the Fisher information."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "squeezellm",
    summary="Fisher information times squared quantization error: the objective that SqueezeLLM's clustering lowers.",
    reference="Kim et al. 2023, SqueezeLLM: Dense-and-Sparse Quantization, arXiv:2306.07629; code "
    "SqueezeAILab/SqueezeLLM",
    needs=("grad_sq", "quantized"),
    cost="1 backward a window",
    note="The paper picks its sensitive weights by the Fisher information alone, which is `fisher` here; its "
    "k-means weighs errors by it, and that is this score.",
    compares_quantized=True,
    granularity="element",
)
def squeezellm(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """F (w - q)^2, F the mean over windows of the squared gradient.

    Half its sum is the diagonal-Fisher prediction of the change of the loss, without its first-order term.

    Raises:
        WorkbenchError: the weight or a statistic holds NaN or infinity, or was not collected.
    """
    check_finite(weight, "the weight")
    squares, quantized = stats.get("grad_sq"), stats.get("quantized")
    check_finite(squares, "the squared gradient")
    check_finite(quantized, "the quantized weight")
    return (squares.double() * (weight.double() - quantized.double()).square()).float()
