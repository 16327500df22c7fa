"""What rounding to a grid did to single weights: signs turned, weights lost, weights that a hair would have moved."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError

BOUNDARY_MARGIN = 0.05


def sign_flips(weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"]) -> float:
    """Share of weights that came out with the opposite sign; becoming zero is no flip (see `zeroed_share`)."""
    return float((weight.sign() * quantized.sign() < 0).double().mean())


def zeroed_share(weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"]) -> float:
    """Share of weights that were not zero and became zero."""
    return float(((weight != 0) & (quantized == 0)).double().mean())


def near_boundary_share(
    weight: Float[Tensor, "out in"],
    scale: Float[Tensor, "out group"],
    *,
    group_size: int,
    margin: float = BOUNDARY_MARGIN,
) -> float:
    """Share of weights within `margin` of a step from where rounding would go the other way.

    `scale` is the step of every group of `group_size` columns (-1: the whole row); the last group may be shorter.
    Chance gives 2 * `margin`. A weight beyond the ends of its grid counts by its fraction too, although there it is
    clamping that decides.

    Raises:
        WorkbenchError: a step is not positive, or the groups do not cover the columns.
    """
    columns = weight.shape[1]
    width = columns if group_size == -1 else group_size
    if not bool((scale > 0).all()) or width < 1 or scale.shape[1] != -(-columns // width):
        raise WorkbenchError(f"{scale.shape[1]} positive steps of {width} columns each do not make {columns} columns")
    step = scale.float().repeat_interleave(width, dim=1)[:, :columns]
    place = weight.float() / step
    return float(((place - place.floor() - 0.5).abs() < margin).double().mean())
