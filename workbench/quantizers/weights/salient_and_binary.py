"""What PTQ1.61 stores: salient columns in 4 bits, a sign for every other weight, and scales of rows and columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float16, UInt8
from torch import Tensor

import lowbit
from lowbit import pack
from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.binary import pack_bits, unpack_bits

SALIENT_BITS = 4


@dataclass(frozen=True, eq=False)
class SalientAndBinaryWeight(QuantizedWeight):
    """Columns of 4 bits, and between them r1 r2 (magnitude * sign + mean) with one r1 a row and one r2 a column.

    Attributes:
        salient: the columns of 4 bits side by side, one scale and zero point a row; None when there are none.
        signs: one bit for each weight of the other columns; None when there are none.
        mask: one bit a column, set where it has 4 bits.
        magnitude: one a row.
        row_factor: r1.
        column_factor: r2, for salient columns too, as the paper counts it.
        mean: one a row; None for zeros.
    """

    salient: lowbit.PackedWeight | None
    signs: UInt8[Tensor, "out bytes"] | None
    mask: UInt8[Tensor, " mask_bytes"]
    magnitude: Float16[Tensor, " out"]
    row_factor: Float16[Tensor, " out"]
    column_factor: Float16[Tensor, " in"]
    mean: Float16[Tensor, " out"] | None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return len(self.magnitude), len(self.column_factor)

    @property
    def salient_columns(self) -> Bool[Tensor, " in"]:
        """Which columns have 4 bits."""
        return unpack_bits(self.mask, self.shape[1])

    @property
    def nominal_bits(self) -> float:
        """The codes, and the hundredth of a bit at which the paper reckons mask and scales of a wide layer: 1.61."""
        return 1.01 + (SALIENT_BITS - 1) * float(self.salient_columns.double().mean())

    def tensors(self) -> dict[str, Tensor]:
        """Codes, signs and mask; fp16 magnitude, factors and mean; scale and zero of the salient columns."""
        stored = {"mask": self.mask, "magnitude": self.magnitude}
        stored |= {"row_factor": self.row_factor, "column_factor": self.column_factor}
        if self.salient is not None and self.salient.zero is not None:
            stored |= {"salient": self.salient.planes[0], "scale": self.salient.scale, "zero": self.salient.zero}
        optional = {"signs": self.signs, "mean": self.mean}
        return stored | {name: tensor for name, tensor in optional.items() if tensor is not None}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        mask, values = self.salient_columns, torch.empty(self.shape, device=self.magnitude.device)
        if self.salient is not None:
            values[:, mask] = lowbit.dequantize(self.salient)
        if self.signs is not None:
            signs = pack.unpack((self.signs,), int((~mask).sum()), 1, -1).float() * 2 - 1
            centred = self.magnitude.float()[:, None] * signs
            centred = centred if self.mean is None else centred + self.mean.float()[:, None]
            values[:, ~mask] = self.row_factor.float()[:, None] * self.column_factor.float()[~mask] * centred
        return values.to(dtype)


@dataclass(frozen=True, eq=False)
class Scales:
    """What is learned of a matrix, float32.

    Attributes:
        magnitude: one a row.
        rows: r1.
        columns: r2.
    """

    magnitude: Float[Tensor, "out 1"]
    rows: Float[Tensor, "out 1"]
    columns: Float[Tensor, "1 in"]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Scales:
        """All three changed in the same way."""
        return Scales(change(self.magnitude), change(self.rows), change(self.columns))

    def rounded(self) -> Scales:
        """As fp16 holds them."""
        return self.mapped(lambda tensor: tensor.detach().half().float())


@dataclass(frozen=True, eq=False)
class Skeleton:
    """What is fixed before anything is learned.

    Attributes:
        mask: salient columns.
        salient: these columns in 4 bits; None when there are none.
        base: their values, zero in the other columns.
        signs: +1 or -1, 0 in salient columns.
        mean: of the other columns of each row, an fp16 number in float32; None for zeros.
        start: the scales to begin with: mean |w| of the other columns (not |w - mean|, as released), and ones.
    """

    mask: Bool[Tensor, " in"]
    salient: lowbit.PackedWeight | None
    base: Float[Tensor, "out in"]
    signs: Float[Tensor, "out in"]
    mean: Float[Tensor, "out 1"] | None
    start: Scales

    def dense(self, scales: Scales) -> Float[Tensor, "out in"]:
        """The weight with these scales; a gradient flows to them."""
        centred = scales.magnitude * self.signs
        if self.mean is not None:
            centred = centred + self.mean * ~self.mask
        return torch.addcmul(self.base, scales.rows * scales.columns, centred)

    def hold(self, scales: Scales) -> SalientAndBinaryWeight:
        """The weight as it is stored."""
        rest = ~self.mask
        signs = pack.pack((self.signs[:, rest] > 0).to(torch.uint8), 1, -1)[0] if bool(rest.any()) else None
        magnitude, rows, columns = (
            t.detach().half().flatten() for t in (scales.magnitude, scales.rows, scales.columns)
        )
        mean = None if self.mean is None else self.mean.half().flatten()
        return SalientAndBinaryWeight(self.salient, signs, pack_bits(self.mask), magnitude, rows, columns, mean)


def lay_out(
    weight: Float[Tensor, "out in"], mask: Bool[Tensor, " in"], *, centred: bool, grid: Literal["row", "salient"]
) -> Skeleton:
    """Salient columns rounded to 4 bits, signs of all others, and the scales to begin with.

    Args:
        weight: full weight, float32.
        mask: salient columns.
        centred: whether signs are taken of the distance to the row's mean.
        grid: whether the 4-bit grid reaches over the whole row or over its salient columns.

    Raises:
        WorkbenchError: NaN or infinity, or a row that no fp16 scale, mean or magnitude reaches.
    """
    rest, weight = ~mask, weight.contiguous()
    others, count = weight * rest, max(int(rest.sum()), 1)
    mean = (others.sum(1, keepdim=True) / count).half().float() if centred else None
    above = (weight if mean is None else weight - mean) >= 0
    signs = torch.where(above, 1.0, -1.0) * rest
    magnitude = (others.abs().sum(1, keepdim=True) / count).half().float()
    check_finite(magnitude if mean is None else magnitude + mean.abs(), "the magnitudes of the rows, in fp16,")
    start = Scales(magnitude, torch.ones_like(magnitude), torch.ones_like(weight[:1]))
    salient, base = _round_salient(weight, mask, grid), torch.zeros_like(weight)
    if salient is not None:
        base[:, mask] = lowbit.dequantize(salient)
    return Skeleton(mask, salient, base, signs, mean, start)


def _round_salient(
    weight: Float[Tensor, "out in"], mask: Bool[Tensor, " in"], grid: Literal["row", "salient"]
) -> lowbit.PackedWeight | None:
    if not bool(mask.any()):
        return None
    part = weight[:, mask].contiguous()
    try:
        levels = lowbit.group_grid(weight if grid == "row" else part, bits=SALIENT_BITS, group_size=-1)
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None
    assert levels.zero is not None  # asymmetric
    codes = (part * levels.scale.float().reciprocal()).round_() + levels.zero.float()
    codes = codes.clamp_(0, 2**SALIENT_BITS - 1).to(torch.uint8)
    return lowbit.PackedWeight.from_codes(codes, levels, bits=SALIENT_BITS, group_size=-1)
