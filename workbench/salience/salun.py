"""SalUn: the weights that a passage of the user leans on."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "salun",
    summary="Absolute gradient of the loss on a second text, such as a passage to be forgotten.",
    reference="Fan et al. 2023, SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency, "
    "arXiv:2310.12508; code OPTML-Group/Unlearn-Saliency",
    needs=("grad",),
    cost="1 backward over the second text",
    note="The paper thresholds over all parameters, norms and biases among them; here the quantizable matrices "
    "are scored.",
    second_text=True,
    granularity="element",
)
def salun(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """|g| of the mean token loss of the second text: the absolute value of the sum, not the sum of absolute values.

    `gradient` on other text. The paper takes the sign of the loss turned round, which does not show.

    Raises:
        WorkbenchError: the weight or the gradient holds NaN or infinity, or the gradient was not collected.
    """
    check_finite(weight, "the weight")
    gradient = stats.get("grad")
    check_finite(gradient, "the gradient")
    return gradient.float().abs()
