"""A weight whose groups are not neighbouring columns, as act-order leaves it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor

import lowbit
from workbench.quantizers.weight import QuantizedWeight

SHORT_INDEX = 2**15
"""Fewer groups than this fit an index of 16 bits."""


@dataclass(frozen=True, eq=False)
class ReorderedWeight(QuantizedWeight):
    """Evenly spaced levels, (code - zero) * scale, in groups of columns from anywhere in the row, the same in all rows.

    Attributes:
        packed: the columns group by group, each group's in their original order.
        group: of each column of the matrix, 16 bits where that is enough.
    """

    packed: lowbit.PackedWeight
    group: Int[Tensor, " in"]

    @classmethod
    def pack(
        cls, codes: UInt8[Tensor, "out in"], grid: lowbit.Grid, group: Int[Tensor, " in"], *, bits: int, group_size: int
    ) -> ReorderedWeight:
        """Pack codes that stand in the order of the matrix.

        Args:
            codes: below 2**bits.
            grid: one a row and group.
            group: of each column; all but the last have `group_size` columns.
            bits: width of a code.
            group_size: columns of a group.
        """
        held = group.to(torch.int16 if grid.scale.shape[1] < SHORT_INDEX else torch.int32)
        ordered = codes[:, held.argsort(stable=True)].contiguous()
        return cls(lowbit.PackedWeight.from_codes(ordered, grid, bits=bits, group_size=group_size), held)

    @property
    def order(self) -> Int64[Tensor, " in"]:
        """Column of the matrix that stands at each place of the packed weight."""
        return self.group.argsort(stable=True)

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return self.packed.shape

    @property
    def nominal_bits(self) -> float:
        """The width of a code."""
        return float(self.packed.bits)

    def tensors(self) -> dict[str, Tensor]:
        """The bit planes, fp16 scales, 16-bit zero points unless symmetric, and the group of each column."""
        stored = {f"plane{place}": plane for place, plane in enumerate(self.packed.planes)}
        stored |= {"scale": self.packed.scale, "group": self.group}
        return stored if self.packed.zero is None else stored | {"zero": self.packed.zero}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight, its columns back in their places."""
        dense = torch.empty(self.shape, dtype=dtype, device=self.group.device)
        dense[:, self.order] = lowbit.dequantize(self.packed, dtype=dtype)
        return dense
