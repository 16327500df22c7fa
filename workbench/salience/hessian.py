"""What `obs`, `hinv2` and `chol2` share: the factor of the inverse Hessian and how it meets the weight."""

from __future__ import annotations

import warnings

from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import DampingRaised, InverseFactor, check_finite, inverse_cholesky
from workbench.model.sites import SiteStatistics


def inverse_factor(stats: SiteStatistics, damping: float) -> InverseFactor:
    """The factor of the inverse Hessian of a site; warns with `DampingRaised` when more damping was needed.

    Raises:
        WorkbenchError: the Gram was not collected, holds NaN or cannot be factored.
    """
    if stats.gram is None:
        raise WorkbenchError("this metric needs the Gram matrix of the layer's inputs; collect the statistic 'gram'")
    factor = inverse_cholesky(stats.gram, damping)
    if factor.damping > damping:
        message = f"damping {damping:g} was too small to factor the Hessian; {factor.damping:g} was used"
        warnings.warn(message, DampingRaised, stacklevel=3)
    return factor


def weigh_columns(
    weight: Float[Tensor, "out in"], importance: Float[Tensor, "in"], factor: InverseFactor
) -> Float[Tensor, "out in"]:
    """w_oj^2 times the importance of column j, float32.

    Dead columns score 0, because removing what is multiplied by zero costs nothing; the repaired diagonal that made the
    Hessian invertible must not show.

    Raises:
        WorkbenchError: the weight holds NaN or infinity.
    """
    check_finite(weight, "the weight")
    return weight.float().square() * importance.masked_fill(factor.dead, 0.0).float()
