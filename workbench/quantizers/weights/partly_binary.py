"""What PB-LLM stores: a sign for most weights of a matrix, eight bits for the salient ones, and which these are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float16, Int16, Int32, UInt8
from torch import Tensor

import lowbit
from lowbit import pack
from workbench.errors import WorkbenchError
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.binary import pack_bits, unpack_bits

Index = Literal["smallest", "bitmap", "sparse"]

SIXTEEN_BITS = 2**16


@dataclass(frozen=True, eq=False)
class PartlyBinaryWeight(QuantizedWeight):
    """PB-LLM's layout: 8 bits for salient weights, a sign for the others, and where the salient ones are.

    Attributes:
        signs: of the weights that are not salient, row by row, eight to a byte (see `lowbit.pack`: planar bytes).
        codes: of the salient weights, row by row.
        scale: 8-bit grid of each row.
        zero: its zero point.
        magnitude: of each row's signs.
        mean: of each row's signs.
        bitmap: one bit a weight, set where it is salient; None when columns are stored.
        columns: of each salient weight, the low 16 bits; None when there is a bitmap.
        row_start: where each row begins among the salient weights; None when there is a bitmap.
        size: (out, in).
    """

    signs: UInt8[Tensor, " bytes"]
    codes: UInt8[Tensor, " salient"]
    scale: Float16[Tensor, "out 1"]
    zero: Int16[Tensor, "out 1"]
    magnitude: Float16[Tensor, " out"]
    mean: Float16[Tensor, " out"]
    bitmap: UInt8[Tensor, " map"] | None
    columns: Int16[Tensor, " salient"] | None
    row_start: Int32[Tensor, " bound"] | None
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return self.size[0], self.size[1]

    @property
    def nominal_bits(self) -> float:
        """8 bits a salient weight, 1 any other, 1 of bitmap: the paper's count."""
        return 2.0 + 7.0 * self.codes.numel() / (self.shape[0] * self.shape[1])

    def tensors(self) -> dict[str, Tensor]:
        """All fields that are tensors."""
        names = ("signs", "codes", "scale", "zero", "magnitude", "mean", "bitmap", "columns", "row_start")
        return {name: held for name in names if (held := getattr(self, name)) is not None}

    @property
    def salient(self) -> Bool[Tensor, "out in"]:
        """Which weights have 8 bits."""
        rows, columns = self.shape
        if self.bitmap is not None:
            return unpack_bits(self.bitmap, rows * columns).reshape(rows, columns)
        assert self.columns is not None  # one of the two is always there
        assert self.row_start is not None
        mask = torch.zeros(rows, columns, dtype=torch.bool, device=self.codes.device)
        row = torch.arange(rows, device=mask.device).repeat_interleave(self.row_start.diff())
        mask[row, self.columns.long() % SIXTEEN_BITS] = True
        return mask

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        salient = self.salient
        positive, codes = torch.zeros_like(salient), torch.zeros_like(salient, dtype=torch.uint8)
        positive[~salient] = unpack_bits(self.signs, salient.numel() - self.codes.numel())
        codes[salient] = self.codes
        grid = lowbit.Grid(self.scale, self.zero)
        full = lowbit.dequantize(lowbit.PackedWeight.from_codes(codes, grid, bits=8, group_size=-1))
        plane = pack.pack(positive.to(torch.uint8), 1, -1)
        signed = lowbit.dequantize(lowbit.BinaryWeight(plane, self.magnitude.reshape(-1, 1, 1), self.size, -1))
        return torch.where(salient, full, signed + self.mean.float().unsqueeze(1)).to(dtype)


def where_salient(mask: Bool[Tensor, "out in"], index: Index) -> dict[str, Tensor | None]:
    """The fields `bitmap`, `columns` and `row_start` of a `PartlyBinaryWeight`.

    Raises:
        WorkbenchError: columns do not fit in 16 bits.
    """
    rows, columns = mask.shape
    fits = columns <= SIXTEEN_BITS
    if index == "sparse" and not fits:
        raise WorkbenchError(f"index 'sparse' has 16 bits a column, too few for {columns} columns; choose bitmap")
    smaller = 2 * int(mask.sum()) + 4 * (rows + 1) < -(-mask.numel() // 8)
    if index == "bitmap" or (index == "smallest" and not (fits and smaller)):
        return {"bitmap": pack_bits(mask), "columns": None, "row_start": None}
    starts = torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0)).to(torch.int32)
    places = mask.nonzero()[:, 1]
    wrapped = torch.where(places < SIXTEEN_BITS // 2, places, places - SIXTEEN_BITS).to(torch.int16)
    return {"bitmap": None, "columns": wrapped, "row_start": starts}
