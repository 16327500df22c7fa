"""Fisher: how much the loss of single windows pulls at a weight."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "fisher",
    summary="Mean over windows of the squared gradient: the diagonal of the empirical Fisher information.",
    reference="Fisher information of SPEFT (code 0-ml/speft); Kirkpatrick et al. 2016, arXiv:1612.00796",
    needs=("grad_sq",),
    cost="1 backward a window",
    note="Empirical: with the labels of the text, not with labels drawn from the model. A sample is a window, "
    "and its gradient is squared after the sum over its tokens, so scores belong to the window length.",
    granularity="element",
)
def fisher(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """Mean over windows of g^2, g the gradient of a window's own mean loss. With one window it is `gradient` squared.

    Raises:
        WorkbenchError: the weight or the gradient holds NaN or infinity, or the gradient was not collected.
    """
    check_finite(weight, "the weight")
    squares = stats.get("grad_sq")
    check_finite(squares, "the squared gradient")
    return squares.float().clone()
