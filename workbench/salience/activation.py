"""Activation: an input channel matters as much as its inputs are large."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.registry import salience


@salience.register(
    "activation",
    summary="Mean absolute input of the channel: a weight matters because of what it is multiplied with.",
    reference="Lin et al. 2023, AWQ: Activation-aware Weight Quantization, arXiv:2306.00978; code mit-han-lab/llm-awq",
    needs=("mean_abs", "max_abs", "sum_sq"),
    cost="in",
    granularity="channel",
)
def activation(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics,
    *,
    statistic: Literal["mean", "max", "rms"] = "mean",
) -> Float[Tensor, "in"]:
    """Mean over the calibration tokens of |x_j|: the salience from which AWQ makes its channel scales.

    The weight takes no part in it. `max` is what PTQ1.61 (arXiv:2502.13179) marks its 4-bit channels with, `rms` is the
    activation's part of Wanda. Left out: AWQ's search over powers of this score, which belongs to its quantizer.

    Raises:
        WorkbenchError: the weight or the statistic holds NaN or infinity.
    """
    check_finite(weight, "the weight")
    scores = {"mean": stats.mean_abs, "max": stats.max_abs, "rms": (stats.sum_sq / stats.tokens).sqrt()}[statistic]
    check_finite(scores, f"the {statistic} absolute input")
    return scores.float().clone()
