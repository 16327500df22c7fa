"""Shared math of the binary quantizers: masked binarization, and the factor they compensate with.

Conventions of `weights.md` hold here: sign(0) = +1, magnitudes and means are rounded to fp16 before a sign is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float16
from torch import Tensor

from workbench.errors import WorkbenchError


@dataclass(frozen=True, eq=False)
class Binarized:
    """Weights of some places of a matrix as mean + magnitude * sign, one mean and one magnitude a row.

    Attributes:
        positive: the sign is +1; it is given for the other places too.
        magnitude: mean distance from the mean; 0 in a row without members.
        mean: 0 where no mean was asked for.
    """

    positive: Bool[Tensor, "out in"]
    magnitude: Float16[Tensor, " out"]
    mean: Float16[Tensor, " out"]

    def values(self) -> Float[Tensor, "out in"]:
        """What the signs stand for, float32, at all places."""
        size = self.magnitude.float().unsqueeze(1)
        return torch.where(self.positive, size, -size) + self.mean.float().unsqueeze(1)


def to_fp16(numbers: Float[Tensor, "*shape"], what: str) -> Float16[Tensor, "*shape"]:
    """The numbers as they are stored.

    Raises:
        WorkbenchError: one is beyond fp16.
    """
    held = numbers.float().half()
    if not bool(torch.isfinite(held).all()):
        largest = float(numbers.abs().max())
        raise WorkbenchError(f"a {what} of the binarized weights has value {largest:.6g}, which is beyond fp16")
    return held


def binarize(
    weight: Float[Tensor, "out in"], members: Bool[Tensor, "out in"], *, centred: bool, counted: bool = False
) -> Binarized:
    """The means over the members of each row that give the least squared error for signs about the (given) mean.

    Args:
        weight: the values.
        members: places that count.
        centred: take each row's mean away before the sign; without it the mean is 0.
        counted: divide the sums by all columns instead of by the members, places outside counting as zeros (PB-LLM's
            code).

    Raises:
        WorkbenchError: a mean or magnitude beyond fp16.
    """
    held = weight * members
    count = members.new_full((len(weight), 1), weight.shape[1], dtype=weight.dtype)
    if not counted:
        count = members.sum(1, keepdim=True).clamp(min=1).to(weight.dtype)
    mean = to_fp16(held.sum(1, keepdim=True) / count * centred, "mean")
    distance = (held - mean).abs()
    magnitude = to_fp16((distance if counted else distance * members).sum(1, keepdim=True) / count, "magnitude")
    return Binarized(weight - mean >= 0, magnitude.squeeze(1), mean.squeeze(1))


def ceiling(share: float, total: int) -> int:
    """The least count that is at least that share of a total, whatever the last bit of the share's product."""
    return math.ceil(round(share * total, 6))
