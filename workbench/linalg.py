"""Linear algebra that several rooms share: damped Hessians and their factors.

Conventions: `gram` is G = X^T X / T of a site's inputs X `[tok, in]`, and the Hessian of the squared output error of
one output row is H = 2 G. Factors are computed in float64 whatever the Gram is held in, because the columns of a
language model's activations span many orders of magnitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from workbench.errors import WorkbenchError

LARGEST_DAMPING = 1.0
SMALLEST_DAMPING = 1e-6


class DampingRaised(UserWarning):
    """A Hessian could not be factored at the damping that was asked for, and a larger one was used."""


@dataclass(frozen=True)
class InverseFactor:
    """The inverse of a damped Hessian, held as its upper Cholesky factor.

    Attributes:
        upper: U with inverse = U^T U, float64. U_jj^2 is the inverse-Hessian diagonal at j once the columns before j
            are eliminated, so it depends on the order of the columns; it is the full diagonal for j = 0 alone.
        damping: the damping that was used, as a share of the mean diagonal.
        dead: columns whose input is always zero.
    """

    upper: Float[Tensor, "in in"]
    damping: float
    dead: Bool[Tensor, "in"]

    def diagonal(self) -> Float[Tensor, "in"]:
        """The diagonal of the inverse, without forming it."""
        return self.upper.square().sum(0)

    def inverse(self) -> Float[Tensor, "in in"]:
        """The dense inverse."""
        return self.upper.T @ self.upper


def check_finite(tensor: Real[Tensor, "*shape"], name: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        WorkbenchError: with the name and how many values are bad.
    """
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        bad = tensor.numel() - int(finite.sum())
        raise WorkbenchError(f"{name} holds {bad} of {tensor.numel()} values that are NaN or infinite")


def dead_columns(gram: Float[Tensor, "in in"]) -> Bool[Tensor, "in"]:
    """Columns whose input was zero on every token: exactly those with a zero on the Gram's diagonal."""
    return gram.diagonal() == 0


def damped_hessian(gram: Float[Tensor, "in in"], damping: float = 0.01) -> Float[Tensor, "in in"]:
    """H = 2 G with `damping` times its mean diagonal added to the diagonal, float64.

    Dead columns are mended before the damping is taken: their diagonal becomes the mean over the live ones. The GPTQ
    code writes 1 there, which lets the unit of the activations decide how strong the damping is.

    Raises:
        WorkbenchError: the Gram holds NaN, infinity or a negative diagonal, or the damping is not in 0..1.
    """
    check_finite(gram, "the Gram matrix")
    if not 0 <= damping <= LARGEST_DAMPING:
        raise WorkbenchError(f"damping has value {damping}; it must lie between 0 and {LARGEST_DAMPING:g}")
    hessian = gram.to(torch.float64, copy=True).mul_(2)
    diagonal = hessian.diagonal()
    if bool((diagonal < 0).any()):
        raise WorkbenchError("the Gram matrix has a negative value on its diagonal, so it is no Gram matrix")
    live = diagonal[diagonal > 0]
    mean = live.mean() if live.numel() else torch.ones((), dtype=torch.float64, device=gram.device)
    diagonal[diagonal == 0] = mean
    diagonal += damping * mean
    return hessian


def inverse_cholesky(gram: Float[Tensor, "in in"], damping: float = 0.01) -> InverseFactor:
    """The upper factor U of the inverse damped Hessian, `Hd^-1 = U^T U`.

    With J the reversal of the order of columns and J Hd J = L L^T, the factor V = J L J is upper triangular and
    Hd = V V^T, so U = V^-1: one factorization and one triangular inverse where the GPTQ code factors, inverts and
    factors again. Damping that is too small for a factor is raised tenfold until it is enough; the caller reads the one
    used from the result and has to tell its user.

    Raises:
        WorkbenchError: no damping up to 1 gives a factor.
    """
    used = damping
    while True:
        # of a wide layer each of these matrices takes half a gigabyte: none is held longer than it is read
        hessian = damped_hessian(gram, used).flip(0, 1)
        energy = hessian.diagonal().clone()
        lower, failed = torch.linalg.cholesky_ex(hessian)
        del hessian
        if not bool(failed) and _well_posed(lower, energy, gram.dtype):
            break
        if used >= LARGEST_DAMPING:
            raise WorkbenchError(f"the Hessian cannot be factored even with damping {LARGEST_DAMPING:g}")
        used = min(max(10 * used, SMALLEST_DAMPING), LARGEST_DAMPING)
    factor = lower.flip(0, 1)
    del lower
    upper = torch.eye(len(factor), dtype=factor.dtype, device=factor.device).T  # by columns, as the solver works
    torch.linalg.solve_triangular(factor, upper, upper=True, out=upper)
    return InverseFactor(upper, used, dead_columns(gram))


def _well_posed(lower: Float[Tensor, "in in"], energy: Float[Tensor, " in"], held: torch.dtype) -> bool:
    """Whether every pivot stands above the rounding of the Gram as it is held.

    A pivot is what the other columns leave unexplained of a column's energy, so it is measured against that energy.
    Without this a Gram of fewer tokens than columns may pass by luck and give an inverse made of rounding errors.
    """
    noise = math.sqrt(len(energy)) * torch.finfo(held).eps
    return bool((lower.diagonal().square() > noise * energy).all())


def inverse(gram: Float[Tensor, "in in"], damping: float = 0.01) -> tuple[Float[Tensor, "in in"], float]:
    """The dense inverse of the damped Hessian, float64, and the damping that was used.

    Raises:
        WorkbenchError: no damping up to 1 gives an inverse.
    """
    factor = inverse_cholesky(gram, damping)
    return factor.inverse(), factor.damping
