"""Magnitude: a weight matters as much as it is large."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.registry import salience


@salience.register(
    "magnitude",
    summary="Absolute value of the weight; the inputs are not looked at.",
    reference="Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks, arXiv:1506.02626",
    cost="out * in",
    granularity="element",
)
def magnitude(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None,
    *,
    relative_to: Literal["nothing", "row", "matrix"] = "nothing",
) -> Float[Tensor, "out in"]:
    """|w|, as it is or as a multiple of the mean |w| of its row or of its matrix.

    The scale of weights differs between layers, so ranking raw magnitudes over a whole model can single out a few
    matrices; `relative_to="matrix"` takes that scale away. An all-zero row or matrix scores 0.

    Raises:
        WorkbenchError: the weight holds NaN or infinity.
    """
    check_finite(weight, "the weight")
    size = weight.float().abs()
    if relative_to == "nothing":
        return size
    mean = size.mean(1, keepdim=True) if relative_to == "row" else size.mean()
    return size / mean.masked_fill(mean == 0, 1.0)
