"""Planar bytes: where the codes of 1, 2, 3, 4 and 8 bits lie in memory.

Columns are cut into groups that share a scale. A group of `length` columns at a plane width of B bits takes
C = ceil(length * B / 8) bytes, and byte c holds the codes of columns c, c + C, c + 2C, ... with the lowest column in
the lowest bits. Taking out the j-th code of every byte thus gives neighbouring columns, with no shuffle. Three bits are
a plane of two bits and a plane of one, so no code ever straddles a byte.

The last group of a row may be shorter than the others; it is stored at its own length. Nothing here looks at values:
`contract.py` checks what callers pass in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

PLANE_WIDTHS: dict[int, tuple[int, ...]] = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 8: (8,)}
"""Bits of each plane, lowest code bits first, by the width of a code."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring groups of one length: all the full groups of a row, or its short last group.

    Attributes:
        first: index of the first group.
        count: number of groups.
        length: columns of each group here.
        stride: columns of a full group of this row.
    """

    first: int
    count: int
    length: int
    stride: int

    @property
    def groups(self) -> slice:
        """The groups of this run among the groups of a row."""
        return slice(self.first, self.first + self.count)

    @property
    def columns(self) -> slice:
        """The columns of this run among the columns of a row."""
        start = self.first * self.stride
        return slice(start, start + self.count * self.length)

    def bytes(self, width: int) -> slice:
        """The bytes of this run among a row's bytes in a plane of `width` bits."""
        start = self.first * group_bytes(self.stride, width)
        return slice(start, start + self.count * group_bytes(self.length, width))


def group_bytes(length: int, width: int) -> int:
    """Bytes of one group of `length` codes in a plane of `width` bits."""
    return -(-length * width // 8)


def runs(columns: int, group_size: int) -> tuple[Run, ...]:
    """The one or two runs of a row; a group size of -1 (or more than the columns) makes the row one group."""
    stride = columns if group_size == -1 else min(group_size, columns)
    full, rest = columns // stride, columns % stride  # divmod does not take the symbolic sizes of torch.compile
    tail = (Run(full, 1, rest, stride),) if rest else ()
    return (Run(0, full, stride, stride), *tail)


def group_count(columns: int, group_size: int) -> int:
    """Groups of a row, a short last one included."""
    return sum(run.count for run in runs(columns, group_size))


def row_bytes(columns: int, group_size: int, width: int) -> int:
    """Bytes of a row in a plane of `width` bits."""
    return runs(columns, group_size)[-1].bytes(width).stop


def empty_planes(
    rows: int, columns: int, bits: int, group_size: int, device: torch.device
) -> tuple[UInt8[Tensor, "out bytes"], ...]:
    """Planes for a weight of `rows` x `columns`, not yet filled."""
    return tuple(
        torch.empty((rows, row_bytes(columns, group_size, width)), dtype=torch.uint8, device=device)
        for width in PLANE_WIDTHS[bits]
    )


def pack_run(
    codes: UInt8[Tensor, "out group length"], planes: tuple[UInt8[Tensor, "out bytes"], ...], run: Run, bits: int
) -> None:
    """Write the codes of one run to their place in `planes` (as many rows as `codes` has)."""
    shift = 0
    for plane, width in zip(planes, PLANE_WIDTHS[bits], strict=True):
        part = codes if width == bits else (codes >> shift) & (2**width - 1)
        plane[:, run.bytes(width)] = _pack_groups(part, width).flatten(1)
        shift += width


def unpack_run(
    planes: tuple[UInt8[Tensor, "out bytes"], ...], run: Run, bits: int
) -> UInt8[Tensor, "out group length"]:
    """Read the codes of one run from `planes`."""
    codes, shift = None, 0
    for plane, width in zip(planes, PLANE_WIDTHS[bits], strict=True):
        held = plane[:, run.bytes(width)].unflatten(1, (run.count, -1))
        part = _unpack_groups(held, run.length, width)
        codes = part if codes is None else codes | (part << shift)
        shift += width
    assert codes is not None  # every width has at least one plane
    return codes


def pack(codes: UInt8[Tensor, "out in"], bits: int, group_size: int) -> tuple[UInt8[Tensor, "out bytes"], ...]:
    """The planes of a whole matrix of codes, each below 2**bits."""
    rows, columns = codes.shape
    planes = empty_planes(rows, columns, bits, group_size, codes.device)
    for run in runs(columns, group_size):
        pack_run(codes[:, run.columns].unflatten(1, (run.count, run.length)), planes, run, bits)
    return planes


def unpack(
    planes: tuple[UInt8[Tensor, "out bytes"], ...], columns: int, bits: int, group_size: int
) -> UInt8[Tensor, "out in"]:
    """The codes of a whole matrix of `columns` columns: the inverse of `pack`."""
    return torch.cat([unpack_run(planes, run, bits).flatten(1) for run in runs(columns, group_size)], dim=1)


def _pack_groups(codes: UInt8[Tensor, "out group length"], width: int) -> UInt8[Tensor, "out group bytes"]:
    """Codes below 2**width, `8 / width` to a byte; places past the end of a short group are zero bits."""
    length = codes.shape[2]
    size = group_bytes(length, width)
    codes = torch.nn.functional.pad(codes, (0, -length % size))
    packed = codes[..., :size].clone()
    for slot, start in enumerate(range(size, length, size), start=1):
        packed |= codes[..., start : start + size] << (width * slot)
    return packed


def _unpack_groups(
    packed: UInt8[Tensor, "out group bytes"], length: int, width: int
) -> UInt8[Tensor, "out group length"]:
    """The first `length` codes of each group."""
    parts = [(packed >> shift) & (2**width - 1) for shift in range(0, 8, width)]
    return torch.cat(parts, dim=2)[..., :length]
