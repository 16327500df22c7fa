"""Weights that one grid does not describe: binary planes, several widths in one matrix, and sparse outliers.

`BinaryWeight` holds signs and magnitudes, `MixedWeight` puts columns of several widths together, `SparseWeight` holds
single entries that are added to a dense part (dense-and-sparse). Like `PackedWeight` they check their parts, count
their own bytes, and know nothing of how they are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float16, Int32, Int64, UInt8
from torch import Tensor

from lowbit import pack
from lowbit.contract import LowbitError, PackedWeight, check_grid_options, check_part

BinaryKind = Literal["plain", "residual", "split"]
PLANES: dict[str, int] = {"plain": 1, "residual": 2, "split": 2}
"""Bit planes (and magnitudes a group) of each kind of binary weight."""


@dataclass(frozen=True, eq=False)
class BinaryWeight:
    """Signs and a few magnitudes a group, with s = 2 * bit - 1 for the bits of each plane.

    Attributes:
        planes: one plane of signs; then, for a residual, the signs of what the first leaves, and for a split, one bit
            that says which of two magnitudes a weight has (planar bytes of one bit, see `pack`).
        magnitude: `plain`: value = s0 * m0. `residual`: s0 * m0 + s1 * m1. `split`: s0 * (m1 if bit1 else m0).
        shape: rows (out) and columns (in).
        group_size: columns that share magnitudes; -1 is the whole row.
        kind: which of the three.

    Raises:
        LowbitError: a part has another shape or dtype than the other fields ask for.
    """

    planes: tuple[UInt8[Tensor, "out bytes"], ...]
    magnitude: Float16[Tensor, "out group plane"]
    shape: tuple[int, int]
    group_size: int
    kind: BinaryKind = "plain"

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together: kernels address them by the numbers alone."""
        check_grid_options(1, self.group_size)
        if self.kind not in PLANES:
            raise LowbitError(f"kind has value {self.kind!r}; choose one of: {', '.join(PLANES)}")
        rows, columns = self.shape
        count = PLANES[self.kind]
        if len(self.planes) != count:
            raise LowbitError(f"a {self.kind} binary weight has {count} plane(s), but {len(self.planes)} were given")
        for plane in self.planes:
            check_part("plane", plane, torch.uint8, (rows, pack.row_bytes(columns, self.group_size, 1)))
        shape = (rows, pack.group_count(columns, self.group_size), count)
        check_part("magnitude", self.magnitude, torch.float16, shape)
        _check_one_device(*self.planes, self.magnitude)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return sum(plane.nbytes for plane in self.planes) + self.magnitude.nbytes

    @property
    def stored_bits(self) -> float:
        """Bits a weight, magnitudes included."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, eq=False)
class MixedWeight:
    """Columns of one matrix in several parts, each of its own width: the parts' columns, sorted back, are the matrix.

    Widths a group (SliM-LLM) have units of `group_size` columns; salient columns beside a binary rest (BiLLM, PTQ1.61)
    have units of one.

    Attributes:
        parts: the columns of one width each, in their original order; every part has all rows.
        choice: the part that each unit of columns belongs to.
        unit: neighbouring columns that go together; the last unit of a row may be shorter.
        shape: rows (out) and columns (in).

    Raises:
        LowbitError: parts, choice and shape do not fit together.
    """

    parts: tuple[PackedWeight | BinaryWeight, ...]
    choice: UInt8[Tensor, " unit"]
    unit: int
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuse parts that do not make up the matrix."""
        if self.unit < 1:
            raise LowbitError(f"unit has value {self.unit!r}; choose a positive number of columns")
        units = -(-self.shape[1] // self.unit)
        check_part("choice", self.choice, torch.uint8, (units,))
        if int(self.choice.max()) >= len(self.parts):
            raise LowbitError(f"choice names part {int(self.choice.max())}, but there are {len(self.parts)}")
        for place, part in enumerate(self.parts):
            shape = (self.shape[0], len(self.columns_of(place)))
            if part.shape != shape:
                raise LowbitError(f"part {place} has shape {part.shape}, but its columns ask for {shape}")
        _check_one_device(self.choice, *(_first_tensor(part) for part in self.parts))

    @cached_property
    def order(self) -> Int64[Tensor, " in"]:
        """Column of the matrix that stands at each place when the parts are laid side by side."""
        return torch.cat([self.columns_of(place) for place in range(len(self.parts))])

    def columns_of(self, place: int) -> Int64[Tensor, " columns"]:
        """The matrix's columns of one part, ascending."""
        of_column = self.choice.repeat_interleave(self.unit)[: self.shape[1]]
        return (of_column == place).nonzero().flatten()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return sum(part.nbytes for part in self.parts) + self.choice.nbytes

    @property
    def stored_bits(self) -> float:
        """Bits a weight, everything included."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, eq=False)
class SparseWeight:
    """Single entries of a matrix, in compressed rows: what is added to a dense part.

    Attributes:
        values: the entries, row by row, columns ascending.
        columns: the column of each entry.
        row_start: where each row begins among the entries; one more than rows.
        shape: rows (out) and columns (in).

    Raises:
        LowbitError: parts that do not fit together, or a column outside the matrix.
    """

    values: Float16[Tensor, " entry"]
    columns: Int32[Tensor, " entry"]
    row_start: Int32[Tensor, " bound"]
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together: kernels address them by the numbers alone."""
        entries = self.values.numel()
        check_part("values", self.values, torch.float16, (entries,))
        check_part("columns", self.columns, torch.int32, (entries,))
        check_part("row_start", self.row_start, torch.int32, (self.shape[0] + 1,))
        _check_one_device(self.values, self.columns, self.row_start)
        steps = self.row_start.diff()
        if int(self.row_start[0]) != 0 or int(self.row_start[-1]) != entries or bool((steps < 0).any()):
            raise LowbitError(f"row_start does not run from 0 to the {entries} entries without going back")
        if entries and not 0 <= int(self.columns.min()) <= int(self.columns.max()) < self.shape[1]:
            raise LowbitError(f"a column of a sparse weight lies outside its {self.shape[1]} columns")

    @classmethod
    def from_mask(cls, w: Tensor, mask: Tensor) -> SparseWeight:
        """The entries of `w` where `mask` is true, rounded to fp16.

        Raises:
            LowbitError: mask and weight differ in shape, or an entry is not finite in fp16.
        """
        if mask.dtype != torch.bool or mask.shape != w.shape or w.ndim != 2:
            raise LowbitError(f"the mask is {mask.dtype} of shape {tuple(mask.shape)}, the weight {tuple(w.shape)}")
        rows, columns = mask.nonzero(as_tuple=True)
        values = w[rows, columns].to(torch.float16)
        if not bool(torch.isfinite(values).all()):
            raise LowbitError("an outlier is not finite in fp16")
        counts = torch.bincount(rows, minlength=w.shape[0]).cumsum(0)
        row_start = torch.nn.functional.pad(counts, (1, 0)).to(torch.int32)
        return cls(values, columns.to(torch.int32), row_start, (w.shape[0], w.shape[1]))

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return self.values.nbytes + self.columns.nbytes + self.row_start.nbytes


Weight = PackedWeight | BinaryWeight | MixedWeight
"""Whatever `dequantize` and `matmul` take."""


def _first_tensor(part: PackedWeight | BinaryWeight) -> Tensor:
    return part.planes[0]


def _check_one_device(*parts: Tensor) -> None:
    if len({part.device for part in parts}) > 1:
        raise LowbitError("the parts of a low-bit weight lie on different devices")
