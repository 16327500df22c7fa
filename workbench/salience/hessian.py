"""What `obs`, `hinv2` and `chol2` share: how the factor of the inverse Hessian meets the weight."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import InverseFactor, check_finite


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
