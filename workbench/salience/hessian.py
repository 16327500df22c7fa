"""What `obs`, `hinv2` and `chol2` share: the factor of the inverse Hessian and how it meets the weight."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import DampingRaised, InverseFactor, check_finite, inverse_cholesky
from workbench.model.sites import SiteStatistics


class _Latest:
    """The factor that was made last: q, k and v read one site and come one after the other."""

    def __init__(self) -> None:
        self._gram: Callable[[], Tensor | None] = lambda: None
        self._held: tuple[float, InverseFactor] | None = None

    def factor(self, gram: Float[Tensor, "in in"], damping: float) -> InverseFactor:
        """The factor of a Gram, made anew unless it is that of the last call."""
        if self._held is None or self._gram() is not gram or self._held[0] != damping:
            self._held = None  # not two at a time: a factor is as large as the Gram
            self._held = damping, inverse_cholesky(gram, damping)
            self._gram = weakref.ref(gram)
        return self._held[1]


_latest = _Latest()


def inverse_factor(stats: SiteStatistics, damping: float) -> InverseFactor:
    """The factor of the inverse Hessian of a site; warns with `DampingRaised` when more damping was needed.

    Raises:
        WorkbenchError: the Gram was not collected, holds NaN or cannot be factored.
    """
    if stats.gram is None:
        raise WorkbenchError("this metric needs the Gram matrix of the layer's inputs; collect the statistic 'gram'")
    factor = _latest.factor(stats.gram, damping)
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
