"""Wanda: weight times the norm of its input."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.registry import salience


@salience.register(
    "wanda",
    summary="Absolute weight times the root mean square of its input channel.",
    reference="Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models, arXiv:2306.11695",
    needs=("sum_sq",),
    cost="out * in",
    note="The paper takes the norm over all tokens and compares weights inside one output row only; here it is the "
    "root mean square, so that the amount of text does not show. The order inside a row is the same.",
    granularity="element",
)
def wanda(weight: Float[Tensor, "out in"], stats: SiteStatistics) -> Float[Tensor, "out in"]:
    """|w_oj| sqrt(G_jj), where G_jj is the mean square of input channel j.

    Its square is half of `obd`. Left out: the paper's N:M patterns and its comparison groups, which are ways to select.

    Raises:
        WorkbenchError: the weight or the statistic holds NaN or infinity.
    """
    check_finite(weight, "the weight")
    check_finite(stats.sum_sq, "the sum of squared inputs")
    return weight.float().abs() * (stats.sum_sq.double() / stats.tokens).sqrt().float()
