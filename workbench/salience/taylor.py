"""Taylor: the squared first-order change of the loss when the weight is removed."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "taylor",
    summary="Squared weight times squared gradient: the first-order importance of pruning by Taylor expansion.",
    reference="Molchanov et al. 2019, Importance Estimation for Neural Network Pruning, arXiv:1906.10771",
    needs=("grad",),
    cost="1 backward",
    note="The paper sums over a filter before it squares; here every weight stands alone, which makes this the square "
    "of `snip`: the order, and so every mask, is the same.",
    granularity="element",
)
def taylor(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """(w g)^2: the square of the very number whose size is `snip`, so that equal scores stay equal and masks agree.

    Products below about 1e-22 have a square that float32 rounds to zero; `snip` ranks those still.

    Raises:
        WorkbenchError: the weight or the gradient holds NaN or infinity, or the gradient was not collected.
    """
    check_finite(weight, "the weight")
    gradient = stats.get("grad")
    check_finite(gradient, "the gradient")
    return (weight.float() * gradient).square().float()
