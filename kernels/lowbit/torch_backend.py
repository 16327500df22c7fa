"""The contract in plain torch: the reference for codes bit by bit, and the path that a CPU takes.

A weight is worked through in chunks of whole rows, so that every temporary stays in the processor's cache, and two
buffers are reused for all of them: on a CPU, memory and not arithmetic sets the pace.

Every step is an operation of its own; torch fuses none of them. `qmax` is a tensor because dividing a CUDA tensor by a
Python number multiplies by its rounded reciprocal instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from lowbit import pack
from lowbit.contract import SCALE_FLOOR, SCALE_MAXIMUM, ErrorSums, Grid, LowbitError, PackedWeight

CHUNK = {"cpu": 2**17, "cuda": 2**24}
"""Elements of a chunk by device type: a CPU core's second-level cache, and enough work for a launch to be worth it."""

Clip = Float32[Tensor, "out group"] | None
"""Share of each group's range that its grid reaches over; None is all of it."""


class Block(NamedTuple):
    """Some rows of one run of groups.

    Attributes:
        rows: which rows of the weight.
        run: which groups of those rows.
        values: the weights, to be read only.
        spare: a buffer of the same shape, overwritten by the next block.
    """

    rows: slice
    run: pack.Run
    values: Float32[Tensor, "out group length"]
    spare: Float32[Tensor, "out group length"]


def quantize(
    w: Float[Tensor, "out in"], bits: int, group_size: int, symmetric: bool, clip: Clip = None
) -> PackedWeight:
    """Round to the nearest level of each group's own grid, and pack."""
    rows, columns = w.shape
    grid = empty_grid(w, group_size, symmetric)
    planes = pack.empty_planes(rows, columns, bits, group_size, w.device)
    for block in blocks(w, group_size):
        part = grid_of(block, bits, symmetric, clip)
        codes = _encode(block.values, part, bits, block.spare).to(torch.uint8)
        pack.pack_run(codes, tuple(plane[block.rows] for plane in planes), block.run, bits)
        _store_grid(part, grid, block)
    return PackedWeight(planes, grid.scale, grid.zero, (rows, columns), bits, group_size, symmetric)


def group_grid(w: Float[Tensor, "out in"], bits: int, group_size: int, symmetric: bool, clip: Clip = None) -> Grid:
    """The grid that `quantize` rounds to."""
    grid = empty_grid(w, group_size, symmetric)
    for block in blocks(w, group_size):
        _store_grid(grid_of(block, bits, symmetric, clip), grid, block)
    return grid


def dequantize(packed: PackedWeight, out: Float[Tensor, "out in"]) -> None:
    """Write the values to `out`, rounded to its dtype."""
    columns = packed.shape[1]
    for rows in row_chunks(*packed.shape, out.device):
        planes = tuple(plane[rows] for plane in packed.planes)
        for run in pack.runs(columns, packed.group_size):
            zero = None if packed.zero is None else packed.zero[rows, run.groups]
            codes = pack.unpack_run(planes, run, packed.bits).to(torch.float32)
            values = _decode(codes, Grid(packed.scale[rows, run.groups], zero), packed.bits)
            out[rows, run.columns] = values.flatten(1)


def errors(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    clip: Clip = None,
) -> ErrorSums:
    """Squared rounding errors of each group, without packing anything."""
    squared = torch.empty(grid_shape(w, group_size), dtype=torch.float32, device=w.device)
    weighted = None if h is None else torch.empty_like(squared)
    for block in blocks(w, group_size):
        square = squares(block, grid_of(block, bits, symmetric, clip), bits)
        squared[block.rows, block.run.groups] = square.sum(-1)
        if h is not None and weighted is not None:
            weighted[block.rows, block.run.groups] = square.mul_(by_group(h, block.run)).sum(-1)
    return ErrorSums(squared, weighted)


def error_table(
    w: Float[Tensor, "out in"],
    widths: Sequence[int],
    group_sizes: Sequence[int],
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
) -> Float64[Tensor, "out width size"]:
    """Errors of each row (weighted where h is given) for every width and group size."""
    table = torch.zeros((w.shape[0], len(widths), len(group_sizes)), dtype=torch.float64, device=w.device)
    for size, group_size in enumerate(group_sizes):
        for block in blocks(w, group_size):
            grids = grids_between(*range_of(block), widths, symmetric, block)
            for width, (bits, grid) in enumerate(zip(widths, grids, strict=True)):
                square = squares(block, grid, bits)
                if h is not None:
                    square.mul_(by_group(h, block.run))
                table[block.rows, width, size] += square.sum(-1).sum(-1, dtype=torch.float64)
    return table


def empty_grid(w: Float[Tensor, "out in"], group_size: int, symmetric: bool) -> Grid:
    """A grid for `w`, not yet filled."""
    shape = grid_shape(w, group_size)
    zero = None if symmetric else torch.empty(shape, dtype=torch.int16, device=w.device)
    return Grid(torch.empty(shape, dtype=torch.float16, device=w.device), zero)


def grid_shape(w: Float[Tensor, "out in"], group_size: int) -> tuple[int, int]:
    """Rows and groups of `w`."""
    return w.shape[0], pack.group_count(w.shape[1], group_size)


def row_chunks(rows: int, columns: int, device: torch.device, chunk: int | None = None) -> Iterator[slice]:
    """Whole rows, in pieces of about `chunk` elements; None is the device's `CHUNK`."""
    step = max(1, (CHUNK.get(device.type, CHUNK["cuda"]) if chunk is None else chunk) // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def blocks(w: Float[Tensor, "out in"], group_size: int, chunk: int | None = None) -> Iterator[Block]:
    """The blocks of a weight, widened to float32."""
    columns = w.shape[1]
    chunks = list(row_chunks(w.shape[0], columns, w.device, chunk))
    buffers = 1 if w.dtype == torch.float32 else 2
    spare, *widened = torch.empty((buffers, chunks[0].stop * columns), dtype=torch.float32, device=w.device)
    for rows in chunks:
        for run in pack.runs(columns, group_size):
            values = w[rows, run.columns].unflatten(1, (run.count, run.length))
            if widened:
                values = widened[0][: values.numel()].view(values.shape).copy_(values)
            yield Block(rows, run, values, spare[: values.numel()].view(values.shape))


def range_of(block: Block) -> tuple[Float32[Tensor, "out group"], Float32[Tensor, "out group"]]:
    """Smallest and largest value of each group, zero counted in."""
    return block.values.amin(-1).clamp_(max=0), block.values.amax(-1).clamp_(min=0)


def grid_of(block: Block, bits: int, symmetric: bool, clip: Clip = None) -> Grid:
    """The grid of each group of a block."""
    lo, hi = range_of(block)
    if clip is not None:
        share = clip[block.rows, block.run.groups]
        lo, hi = lo.mul_(share), hi.mul_(share)
    return grid_between(lo, hi, bits, symmetric, block)


def grid_between(
    lo: Float32[Tensor, "out group"], hi: Float32[Tensor, "out group"], bits: int, symmetric: bool, block: Block
) -> Grid:
    """The grid of groups that reach from `lo` to `hi`; `block` is where they came from, for the error's sentence."""
    return grids_between(lo, hi, (bits,), symmetric, block)[0]


def grids_between(
    lo: Float32[Tensor, "out group"],
    hi: Float32[Tensor, "out group"],
    widths: Sequence[int],
    symmetric: bool,
    block: Block,
) -> list[Grid]:
    """The grids of the same groups at several widths, computed together: a step on few numbers costs its call alone."""
    qmax = torch.tensor([2.0**bits - 1 for bits in widths], device=lo.device).view(-1, 1, 1)
    span = 2 * torch.maximum(-lo, hi) if symmetric else hi - lo
    scale = (span / qmax).to(torch.float16).clamp_(min=SCALE_FLOOR)
    if not scale.amax().item() <= SCALE_MAXIMUM:  # nor is NaN
        raise _refusal(block, scale, widths)
    if symmetric:
        return [Grid(part, None) for part in scale]
    zero = torch.minimum((-lo * scale.float().reciprocal()).round_().clamp_(min=0), qmax).to(torch.int16)
    return [Grid(*parts) for parts in zip(scale, zero, strict=True)]


def _refusal(block: Block, scale: Float[Tensor, "width out group"], widths: Sequence[int]) -> LowbitError:
    """Why the first group without a finite scale has none: NaN and infinities reach the scale through the range."""
    width, row, group = (int(index) for index in (~torch.isfinite(scale)).nonzero()[0])
    values = block.values[row, group]
    where = f"row {block.rows.start + row}"
    column = block.run.columns.start + group * block.run.length
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        return LowbitError(f"the weight holds {values[bad[0, 0]].item()} in {where}, column {column + int(bad[0, 0])}")
    return LowbitError(
        f"in {where}, columns {column} to {column + block.run.length - 1}, the weight reaches "
        f"{values.abs().max().item():.6g}, so its {widths[width]} bit scale would exceed {SCALE_MAXIMUM:g}, "
        "the maximum of fp16"
    )


def _store_grid(part: Grid, grid: Grid, block: Block) -> None:
    grid.scale[block.rows, block.run.groups] = part.scale
    if grid.zero is not None and part.zero is not None:
        grid.zero[block.rows, block.run.groups] = part.zero


def _encode(
    values: Float32[Tensor, "out group length"], grid: Grid, bits: int, out: Float32[Tensor, "out group length"]
) -> Float32[Tensor, "out group length"]:
    """Codes as float32, in `out`."""
    inv = grid.scale.float().reciprocal().unsqueeze(-1)
    codes = torch.mul(values, inv, out=out).round_()
    return codes.add_(_zero(grid, bits)).clamp_(0, 2**bits - 1)


def _decode(codes: Float32[Tensor, "out group length"], grid: Grid, bits: int) -> Float32[Tensor, "out group length"]:
    """Values of the codes, in place."""
    return codes.sub_(_zero(grid, bits)).mul_(grid.scale.float().unsqueeze(-1))


def _zero(grid: Grid, bits: int) -> Float32[Tensor, "out group 1"] | float:
    return 2.0 ** (bits - 1) if grid.zero is None else grid.zero.float().unsqueeze(-1)


def rounded(
    block: Block, grid: Grid, bits: int, out: Float32[Tensor, "out group length"] | None = None
) -> Float32[Tensor, "out group length"]:
    """The values that a block's weights are rounded to, in `out`, or else in its spare buffer, which is used anyway."""
    levels = _encode(block.values, grid, bits, block.spare).sub_(_zero(grid, bits))
    return torch.mul(levels, grid.scale.float().unsqueeze(-1), out=levels if out is None else out)


def squares(block: Block, grid: Grid, bits: int) -> Float32[Tensor, "out group length"]:
    """Squared error of each weight, in the block's spare buffer."""
    return rounded(block, grid, bits).sub_(block.values).square_()


def by_group(h: Float32[Tensor, " in"], run: pack.Run) -> Float32[Tensor, "group length"]:
    """Numbers of the columns of a run, group by group."""
    return h[run.columns].view(run.count, run.length)
