"""What rounding to a grid did to single weights: signs turned, weights lost, weights that a hair would have moved."""

from __future__ import annotations

import torch
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


def near_boundary_share_of_levels(
    weight: Float[Tensor, "out in"],
    quantized: Float[Tensor, "out in"],
    *,
    levels: int,
    margin: float = BOUNDARY_MARGIN,
) -> float | None:
    """The same where a row has a few levels of its own: within `margin` of a gap from the middle between two of them.

    The gap is that of the two levels on both sides of the middle; levels that no weight of the row took are not known,
    and their neighbours count as one gap.

    Args:
        weight: the full weights.
        quantized: what they became.
        levels: how many different values a row may hold.
        margin: as a share of the gap.

    Returns:
        The share, or None where a row holds more values than that: then its weights stand on several grids.
    """
    near = 0
    for row, values in zip(weight.float(), quantized.float(), strict=True):
        held = values.unique()
        if len(held) > levels:
            return None
        if len(held) > 1:
            middles, gaps = (held[1:] + held[:-1]) / 2, held.diff()
            place = torch.bucketize(row, held[1:-1])  # the gap that a weight lies in; beyond the ends the outer one
            near += int(((row - middles[place]).abs() < margin * gaps[place]).sum())
    return near / weight.numel()
