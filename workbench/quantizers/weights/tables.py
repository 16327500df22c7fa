"""Quantized weights whose levels are no integer grid of `lowbit`: tables, float zero points, bent and mid-rise grids.

Their codes are packed as everywhere; only the step from a code to a value is their own, in float32 and in the order of
operations that each class names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from workbench.quantizers.weights.coded import CodedWeight, spread

Curve = Literal["power", "mu_law"]


@dataclass(frozen=True, eq=False)
class TableWeight(CodedWeight):
    """value = table[code], with one table for each row or one for the matrix.

    Attributes:
        table: ascending levels, fp16.
    """

    table: Float16[Tensor, "tables level"]

    @property
    def nominal_bits(self) -> float:
        """The width of a code and the tables at 16 bits a level: papers on tables count them."""
        return self.bits + 16 * self.table.numel() / (self.size[0] * self.size[1])

    def tensors(self) -> dict[str, Tensor]:
        """The bit planes and the tables."""
        return super().tensors() | {"table": self.table}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        levels = self.table.float().expand(self.size[0], -1)
        return levels.gather(1, self.codes().long()).to(dtype)


@dataclass(frozen=True, eq=False)
class FloatZeroWeight(CodedWeight):
    """value = (code - zero) * scale, with a zero point that is no integer, so that zero need not be a level.

    Attributes:
        scale: one a group, fp16.
        zero: one a group, fp16.
        across: codes and groups are those of the transposed weight: a group is neighbouring rows of one column.
    """

    scale: Float16[Tensor, "line group"]
    zero: Float16[Tensor, "line group"]
    across: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return (self.size[1], self.size[0]) if self.across else self.size

    def tensors(self) -> dict[str, Tensor]:
        """The bit planes, scales and zero points."""
        return super().tensors() | {"scale": self.scale, "zero": self.zero}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        scale, zero = (spread(part.float(), self.size[1], self.group_size) for part in (self.scale, self.zero))
        values = (self.codes() - zero) * scale
        return (values.T.contiguous() if self.across else values).to(dtype)


@dataclass(frozen=True, eq=False)
class CompandedWeight(CodedWeight):
    """value = level[code] * scale, the levels in -1..1 being an even grid bent by a curve of one parameter.

    Attributes:
        scale: one a group, fp16.
        parameter: exponent of the power map or mu of the mu-law, fp16.
        curve: which of the two.
    """

    scale: Float16[Tensor, "out group"]
    parameter: Float16[Tensor, " one"]
    curve: Curve

    def tensors(self) -> dict[str, Tensor]:
        """The bit planes, scales and the curve's parameter."""
        return super().tensors() | {"scale": self.scale, "parameter": self.parameter}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        scale = spread(self.scale.float(), self.size[1], self.group_size)
        levels = bent_levels(self.bits, float(self.parameter), self.curve).to(scale.device)
        return (levels[self.codes().int()] * scale).to(dtype)


@dataclass(frozen=True, eq=False)
class MidriseWeight(CodedWeight):
    """value = scale * (code - n + 1/2) / n with n = 2^(bits - 1): levels on both sides of zero, none on it.

    Attributes:
        scale: half the span of the grid, one a row, fp16.
    """

    scale: Float16[Tensor, "out 1"]

    def tensors(self) -> dict[str, Tensor]:
        """The bit planes and scales."""
        return super().tensors() | {"scale": self.scale}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        half = 2 ** (self.bits - 1)
        return (self.scale.float() * ((self.codes().float() - (half - 0.5)) / half)).to(dtype)


def bent_levels(bits: int, parameter: float, curve: Curve) -> Float[Tensor, " level"]:
    """The value of each code before the scale; the lowest code is not used, so that zero is a level."""
    most = 2 ** (bits - 1) - 1
    return expand(torch.arange(-most - 1, most + 1).clamp_min(-most) / most, parameter, curve)


def compress(even: Float[Tensor, "*shape"], parameter: float, curve: Curve) -> Float[Tensor, "*shape"]:
    """Values in -1..1 to where they are rounded evenly: sign(x) |x|^p, or sign(x) ln(1 + mu |x|) / ln(1 + mu)."""
    if parameter == straight(curve):
        return even
    size = even.abs()
    bent = size.pow(parameter) if curve == "power" else (size * parameter).log1p() / math.log1p(parameter)
    return bent.copysign(even)


def expand(bent: Float[Tensor, "*shape"], parameter: float, curve: Curve) -> Float[Tensor, "*shape"]:
    """The inverse of `compress`."""
    if parameter == straight(curve):
        return bent
    size = bent.abs()
    even = size.pow(1 / parameter) if curve == "power" else (size * math.log1p(parameter)).expm1() / parameter
    return even.copysign(bent)


def straight(curve: Curve) -> float:
    """The parameter that bends nothing."""
    return 1.0 if curve == "power" else 0.0
