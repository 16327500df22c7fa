"""What the columns of a group may be rounded to: an even grid, or the two levels of a sign.

All numbers that rounding takes are prepared once a group, so that a column costs four operations and no new memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float16, Int16, UInt8
from torch import Tensor

from lowbit.contract import SCALE_FLOOR, SCALE_MAXIMUM
from workbench.errors import WorkbenchError


class Levels(ABC):
    """What the weights of a group of columns may be rounded to, in every row."""

    @abstractmethod
    def round(
        self,
        column: Float[Tensor, "*columns out"],
        level: Float[Tensor, "*columns out"],
        lost: Float[Tensor, "*columns out"],
    ) -> None:
        """Write to `level` which multiple of the step is nearest to the column, to `lost` what the column loses."""

    @abstractmethod
    def codes(self, level: Float[Tensor, "columns out"]) -> UInt8[Tensor, "columns out"]:
        """The codes that stand for multiples of the step."""


@dataclass(frozen=True, eq=False)
class AffineLevels(Levels):
    """Levels (code - zero) * scale of the kernels' contract, one group of columns, float32 unless said otherwise.

    Attributes:
        scale: as it is stored.
        zero: as it is stored; the code of zero of a symmetric grid, too.
        step: the scale in float32, `inverse` its reciprocal.
        lowest: level of code 0, `highest` that of the last code.
    """

    scale: Float16[Tensor, " out"]
    zero: Int16[Tensor, " out"]
    step: Float[Tensor, " out"]
    inverse: Float[Tensor, " out"]
    lowest: Float[Tensor, " out"]
    highest: Float[Tensor, " out"]

    @classmethod
    def of(cls, scale: Float16[Tensor, " out"], zero: Int16[Tensor, " out"] | None, bits: int) -> AffineLevels:
        """The levels of a grid as it is stored."""
        held = torch.full_like(scale, 2 ** (bits - 1), dtype=torch.int16) if zero is None else zero
        step, lowest = scale.float(), -held.float()
        return cls(scale, held, step, step.reciprocal(), lowest, lowest + (2**bits - 1))

    @classmethod
    def between(
        cls, low: Float[Tensor, " out"], high: Float[Tensor, " out"], bits: int, symmetric: bool
    ) -> AffineLevels:
        """The contract's grid from `low` (at most 0) to `high` (at least 0), in its order of operations.

        The kernels make grids over a part of a group's range only; this one may reach beyond it. A scale beyond fp16
        is infinite.
        """
        qmax = torch.tensor(2.0**bits - 1, device=low.device)
        span = 2 * torch.maximum(-low, high) if symmetric else high - low
        scale = (span / qmax).half().clamp_(min=SCALE_FLOOR)
        if symmetric:
            return cls.of(scale, None, bits)
        zero = torch.minimum((-low * scale.float().reciprocal()).round_().clamp_(min=0), qmax)
        return cls.of(scale, zero.to(torch.int16), bits)

    def round(
        self,
        column: Float[Tensor, "*columns out"],
        level: Float[Tensor, "*columns out"],
        lost: Float[Tensor, "*columns out"],
    ) -> None:
        """See `Levels`."""
        torch.mul(column, self.inverse, out=level)
        torch.clamp(level.round_(), self.lowest, self.highest, out=level)
        torch.addcmul(column, level, self.step, value=-1, out=lost)

    def codes(self, level: Float[Tensor, "columns out"]) -> UInt8[Tensor, "columns out"]:
        """The codes of levels."""
        return (level - self.lowest).to(torch.uint8)


@dataclass(frozen=True, eq=False)
class SignLevels(Levels):
    """The two levels of a sign, one magnitude a row.

    Attributes:
        magnitude: as it is stored; `step` is the same in float32.
    """

    magnitude: Float16[Tensor, " out"]
    step: Float[Tensor, " out"]

    @classmethod
    def fit(cls, columns: Float[Tensor, "columns out"]) -> SignLevels:
        """The mean size of a group's weights, which has the least squared error; the sign of zero is plus.

        Raises:
            WorkbenchError: it is beyond fp16.
        """
        magnitude = columns.abs().mean(0).half()
        check_scale(magnitude)
        return cls(magnitude, magnitude.float())

    def round(
        self,
        column: Float[Tensor, "*columns out"],
        level: Float[Tensor, "*columns out"],
        lost: Float[Tensor, "*columns out"],
    ) -> None:
        """See `Levels`."""
        torch.ge(column, 0, out=level)
        level.mul_(2).sub_(1)
        torch.addcmul(column, level, self.step, value=-1, out=lost)

    def codes(self, level: Float[Tensor, "columns out"]) -> UInt8[Tensor, "columns out"]:
        """1 where the sign is plus."""
        return (level > 0).to(torch.uint8)


def check_scale(scale: Float16[Tensor, "*shape"]) -> None:
    """Refuse a scale that fp16 does not hold.

    Raises:
        WorkbenchError: with the bound.
    """
    if not bool((scale <= SCALE_MAXIMUM).all()):
        raise WorkbenchError(
            f"the weight reaches so far that a scale would exceed {SCALE_MAXIMUM:g}, the maximum of fp16"
        )
