"""The factor of the inverse Hessian of a site, made once for all the matrices that read it.

Metrics of the Hessian family and error-compensating quantizers share it.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import DampingRaised, InverseFactor, inverse_cholesky
from workbench.model.sites import SiteStatistics


class _Latest:
    """The factor that was made last: q, k and v read one site and come one after the other."""

    def __init__(self) -> None:
        self._gram: Callable[[], Tensor | None] = lambda: None
        self._held: tuple[tuple[float, bool], InverseFactor] | None = None

    def factor(self, gram: Float[Tensor, "in in"], damping: float, by_energy: bool) -> InverseFactor:
        """The factor of a Gram, made anew unless it is that of the last call."""
        key = damping, by_energy
        if self._held is None or self._gram() is not gram or self._held[0] != key:
            self._held = None  # not two at a time: a factor is as large as the Gram
            order = falling_energy(gram) if by_energy else None
            self._held = key, inverse_cholesky(gram if order is None else gram[order][:, order], damping)
            self._gram = weakref.ref(gram)
        return self._held[1]


_latest = _Latest()


def gram_of(stats: SiteStatistics | None, method: str = "this method") -> Float[Tensor, "in in"]:
    """The Gram matrix of a site.

    Raises:
        WorkbenchError: it was not collected.
    """
    if stats is None or stats.gram is None:
        raise WorkbenchError(f"{method} needs the Gram matrix of the layer's inputs; collect the statistic 'gram'")
    return stats.gram


def falling_energy(gram: Float[Tensor, "in in"]) -> Int64[Tensor, " in"]:
    """Columns by falling diagonal of the Gram, equal ones from left to right: the order that GPTQ calls act-order."""
    return gram.diagonal().argsort(descending=True, stable=True)


def inverse_factor(
    stats: SiteStatistics | None, damping: float, *, by_energy: bool = False, method: str = "this method"
) -> InverseFactor:
    """The factor of the inverse Hessian of a site; warns with `DampingRaised` when more damping was needed.

    Args:
        stats: of the site.
        damping: share of the mean diagonal.
        by_energy: of the Hessian with its columns in the order of `falling_energy`.
        method: who asks, for the message.

    Raises:
        WorkbenchError: the Gram was not collected, holds NaN or cannot be factored.
    """
    factor = _latest.factor(gram_of(stats, method), damping, by_energy)
    if factor.damping > damping:
        message = f"damping {damping:g} was too small to factor the Hessian; {factor.damping:g} was used"
        warnings.warn(message, DampingRaised, stacklevel=3)
    return factor
