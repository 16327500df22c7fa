"""Optimal Brain Damage: the output error of removing a weight, with the others left as they are."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.registry import salience


@salience.register(
    "obd",
    summary="Squared weight times the diagonal of the layer's Hessian: twice the output error of removing it alone.",
    reference="LeCun et al. 1989, Optimal Brain Damage, NIPS 2",
    needs=("sum_sq",),
    cost="out * in",
    note="The paper's Hessian is that of the model's loss; here, as in the quantization papers, it is that of the "
    "layer's own squared output error.",
    granularity="element",
)
def obd(weight: Float[Tensor, "out in"], stats: SiteStatistics) -> Float[Tensor, "out in"]:
    """w_oj^2 H_jj with H = 2 G, so the squared output error per token of setting w_oj to 0 is half of it.

    Undamped: only the diagonal is read and nothing is inverted. It is the square of `wanda` times two.

    Raises:
        WorkbenchError: the weight or the statistic holds NaN or infinity.
    """
    check_finite(weight, "the weight")
    check_finite(stats.sum_sq, "the sum of squared inputs")
    return weight.float().square() * (2 * stats.sum_sq.double() / stats.tokens).float()
