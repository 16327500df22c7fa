"""Quantize, dequantize and measure errors in Triton: one program for some rows of one group.

The launchers take what `torch_backend` takes and return the same, bit for bit. Groups whose length is a power of two
that divides the row are packed from registers, so the weight is read once; any other group reads its columns a second
time while it packs, which the first-level cache serves.
"""

# Triton's annotations describe the compiler's types, not what may be written inside a kernel:
# pyright: reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from lowbit import pack, torch_backend
from lowbit.contract import ErrorSums, PackedWeight
from lowbit.torch_backend import Clip
from lowbit.triton_common import (
    clipped_range,
    encode,
    launch,
    load_columns,
    make_grid,
    pack_tile,
    place,
    refuse_values,
    squared_errors,
    store_plane,
)


@triton.jit
def _pack_columns(
    plane_ptr, w_ptr, rows, group, length, inv, zero, row_bytes, N, K,
    BITS: tl.constexpr, SHIFT: tl.constexpr, WIDTH: tl.constexpr, G: tl.constexpr, TILE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
):  # fmt: skip
    """Bits SHIFT..SHIFT+WIDTH of the codes of a group of any length, its weights read slot by slot."""
    SLOTS: tl.constexpr = 8 // WIDTH
    size = tl.cdiv(length, SLOTS)
    c = tl.arange(0, TILE // SLOTS)
    packed = tl.zeros((BLOCK_ROWS, TILE // SLOTS), tl.int32)
    for slot in tl.static_range(SLOTS):
        columns = slot * size + c
        values = load_columns(w_ptr, rows, columns, group * G, length, N, K, False)
        codes = (encode(values, inv, zero, BITS).to(tl.int32) >> SHIFT) & (2**WIDTH - 1)
        packed |= tl.where((columns < length)[None, :], codes << (WIDTH * slot), 0)
    store_plane(plane_ptr, packed, rows, row_bytes, group * tl.cdiv(G, SLOTS), size, N, TILE // SLOTS, False)


@triton.jit
def _quantize_kernel(
    w_ptr, N, K, clip_ptr, scale_ptr, zero_ptr, low_ptr, high_ptr, low_bytes, high_bytes,
    BITS: tl.constexpr, SYMMETRIC: tl.constexpr, CLIPPED: tl.constexpr, G: tl.constexpr, TILE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Grid and packed codes of one group of some rows."""
    rows, group, groups = place(N, K, G, BLOCK_ROWS)
    length = tl.minimum(G, K - group * G)
    values = load_columns(w_ptr, rows, tl.arange(0, TILE), group * G, length, N, K, WHOLE)
    cell = rows.to(tl.int64) * groups + group
    lo, hi = clipped_range(values, clip_ptr, rows, cell, N, CLIPPED)
    scale, inv, zero = make_grid(lo, hi, BITS, SYMMETRIC)
    tl.store(scale_ptr + cell, scale.to(tl.float16), mask=rows < N)
    if not SYMMETRIC:
        tl.store(zero_ptr + cell, zero.to(tl.int16), mask=rows < N)
    LOW: tl.constexpr = 2 if BITS == 3 else BITS
    if WHOLE:
        codes = encode(values, inv, zero, BITS).to(tl.int32)
        C: tl.constexpr = TILE * LOW // 8
        packed = pack_tile(codes & (2**LOW - 1), BLOCK_ROWS, TILE, LOW)
        store_plane(low_ptr, packed, rows, low_bytes, group * C, C, N, C, True)
        if BITS == 3:
            packed = pack_tile(codes >> 2, BLOCK_ROWS, TILE, 1)
            store_plane(high_ptr, packed, rows, high_bytes, group * (TILE // 8), TILE // 8, N, TILE // 8, True)
    else:
        _pack_columns(
            low_ptr, w_ptr, rows, group, length, inv, zero, low_bytes, N, K, BITS, 0, LOW, G, TILE, BLOCK_ROWS
        )
        if BITS == 3:
            _pack_columns(
                high_ptr, w_ptr, rows, group, length, inv, zero, high_bytes, N, K, BITS, 2, 1, G, TILE, BLOCK_ROWS
            )


@triton.jit
def _dequantize_kernel(
    out_ptr, N, K, scale_ptr, zero_ptr, low_ptr, high_ptr, low_bytes, high_bytes,
    BITS: tl.constexpr, SYMMETRIC: tl.constexpr, G: tl.constexpr, TILE: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    WHOLE: tl.constexpr,
):  # fmt: skip
    """Values of one group of some rows; slot j of the bytes holds neighbouring columns."""
    rows, group, groups = place(N, K, G, BLOCK_ROWS)
    LOW: tl.constexpr = 2 if BITS == 3 else BITS
    SLOTS: tl.constexpr = 8 // LOW
    C: tl.constexpr = TILE // SLOTS
    length = G if WHOLE else tl.minimum(G, K - group * G)
    size = C if WHOLE else tl.cdiv(length, SLOTS)
    high_size = C // 2 if WHOLE else tl.cdiv(length, 8)
    here = rows < N
    row = rows.to(tl.int64)
    cell = row * groups + group
    scale = tl.load(scale_ptr + cell, mask=here, other=0.0).to(tl.float32)
    if SYMMETRIC:
        zero = tl.full((BLOCK_ROWS,), 2 ** (BITS - 1), tl.float32)
    else:
        zero = tl.load(zero_ptr + cell, mask=here, other=0).to(tl.float32)
    c = tl.arange(0, C)
    low = row[:, None] * low_bytes + (group * tl.cdiv(G, SLOTS) + c)[None, :]
    held = tl.load(low_ptr + low, mask=here[:, None] & (c < size)[None, :], other=0).to(tl.int32)
    for slot in tl.static_range(SLOTS):
        columns = slot * size + c
        inside = here[:, None] & ((c < size) & (columns < length))[None, :]
        codes = (held >> (LOW * slot)) & (2**LOW - 1)
        if BITS == 3:
            high = row[:, None] * high_bytes + (group * tl.cdiv(G, 8) + columns % high_size)[None, :]
            bits = tl.load(high_ptr + high, mask=inside, other=0).to(tl.int32)
            codes |= ((bits >> (columns // high_size)[None, :]) & 1) << 2
        values = (codes.to(tl.float32) - zero[:, None]) * scale[:, None]
        out = row[:, None] * K + (group * G + columns)[None, :]
        tl.store(out_ptr + out, values.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _errors_kernel(
    w_ptr, N, K, h_ptr, clip_ptr, squared_ptr, weighted_ptr,
    WIDTHS: tl.constexpr, SYMMETRIC: tl.constexpr, WEIGHTED: tl.constexpr, CLIPPED: tl.constexpr, G: tl.constexpr,
    TILE: tl.constexpr, BLOCK_ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Error sums of one group of some rows at every width: the weight is read once for all of them."""
    rows, group, groups = place(N, K, G, BLOCK_ROWS)
    length = tl.minimum(G, K - group * G)
    columns = tl.arange(0, TILE)
    values = load_columns(w_ptr, rows, columns, group * G, length, N, K, WHOLE)
    lo, hi = clipped_range(values, clip_ptr, rows, rows.to(tl.int64) * groups + group, N, CLIPPED)
    if WEIGHTED:
        h = tl.load(h_ptr + group * G + columns, mask=columns < length, other=0.0)
    for index in tl.static_range(len(WIDTHS)):
        scale, inv, zero = make_grid(lo, hi, WIDTHS[index], SYMMETRIC)
        square = squared_errors(values, scale, inv, zero, WIDTHS[index])
        cell = (index * N + rows).to(tl.int64) * groups + group
        tl.store(squared_ptr + cell, tl.sum(square, 1), mask=rows < N)
        if WEIGHTED:
            tl.store(weighted_ptr + cell, tl.sum(square * h[None, :], 1), mask=rows < N)


def quantize(
    w: Float[Tensor, "out in"], bits: int, group_size: int, symmetric: bool, clip: Clip = None
) -> PackedWeight:
    """See `torch_backend.quantize`."""
    refuse_values(w, (bits,), group_size, symmetric, clip)
    rows, columns = w.shape
    grid = torch_backend.empty_grid(w, group_size, symmetric)
    planes = pack.empty_planes(rows, columns, bits, group_size, w.device)
    packed = PackedWeight(planes, grid.scale, grid.zero, (rows, columns), bits, group_size, symmetric)
    options = {"BITS": bits, "SYMMETRIC": symmetric, "CLIPPED": clip is not None}
    launch(_quantize_kernel, w, group_size, w if clip is None else clip, *_stored(packed), **options)
    return packed


def dequantize(packed: PackedWeight, out: Float[Tensor, "out in"]) -> None:
    """See `torch_backend.dequantize`."""
    options = {"BITS": packed.bits, "SYMMETRIC": packed.symmetric}
    launch(_dequantize_kernel, out, packed.group_size, *_stored(packed), op="dequantize", **options)


def errors(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    clip: Clip = None,
) -> ErrorSums:
    """See `torch_backend.errors`."""
    squared, weighted = _error_sums(w, (bits,), group_size, symmetric, h, clip)
    return ErrorSums(squared[0], None if weighted is None else weighted[0])


def error_table(
    w: Float[Tensor, "out in"],
    widths: Sequence[int],
    group_sizes: Sequence[int],
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
) -> Float64[Tensor, "out width size"]:
    """See `torch_backend.error_table`."""
    parts = []
    for group_size in group_sizes:
        squared, weighted = _error_sums(w, tuple(widths), group_size, symmetric, h)
        parts.append((squared if weighted is None else weighted).sum(-1, dtype=torch.float64))
    return torch.stack(parts, dim=-1).transpose(0, 1).contiguous()


def _error_sums(
    w: Float[Tensor, "out in"],
    widths: tuple[int, ...],
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    clip: Clip = None,
) -> tuple[Float32[Tensor, "width out group"], Float32[Tensor, "width out group"] | None]:
    """Sums for every width. Each program writes cells of its own, so results do not depend on the order of programs."""
    refuse_values(w, widths, group_size, symmetric, clip)
    shape = (len(widths), w.shape[0], pack.group_count(w.shape[1], group_size))
    squared = torch.empty(shape, dtype=torch.float32, device=w.device)
    weighted = None if h is None else torch.empty_like(squared)
    read = (w if h is None else h, w if clip is None else clip)
    arguments = (*read, squared, squared if weighted is None else weighted)
    options = {"WIDTHS": widths, "SYMMETRIC": symmetric, "WEIGHTED": h is not None, "CLIPPED": clip is not None}
    launch(_errors_kernel, w, group_size, *arguments, op="errors", **options)
    return squared, weighted


def _stored(packed: PackedWeight) -> tuple[Tensor | int, ...]:
    """Kernel arguments for what a packed weight holds; where a tensor does not exist, another one stands in unread."""
    low, high = packed.planes[0], packed.planes[-1]
    zero = packed.scale if packed.zero is None else packed.zero
    return packed.scale, zero, low, high, low.shape[1], high.shape[1]
