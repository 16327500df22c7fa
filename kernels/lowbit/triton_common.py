"""Pieces that the Triton kernels share: the launch, rounding, the grid, codes, tiles, planar packing.

Bit for bit the same as `torch_backend` under three conditions that every launch keeps: divisions by `div_rn`, no fused
product and sum (`enable_fp_fusion=False`), and rounding by adding and taking away 1.5 * 2**23, which leaves the nearest
integer (half to even) of any number below 2**22 in size; weights divided by the scale of their whole range stay below
400, and those that a clipped range leaves far outside end at the last level, however they are rounded.

Weights are widened to float32 as they are loaded: the interpreter computes wrongly in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from lowbit import pack, torch_backend
from lowbit.configs import capability_of, launch_shape, tile_columns
from lowbit.contract import SCALE_MAXIMUM, LowbitError
from lowbit.torch_backend import Clip

ROUNDER = tl.constexpr(12582912.0)
SCALE_FLOOR = tl.constexpr(2.0**-24)
LONGEST_GROUP = 2**16
"""Columns that one program can hold in registers."""


@triton.jit
def place(N, K, G: tl.constexpr, BLOCK_ROWS: tl.constexpr):
    """Rows, group index and number of groups of this program; neighbouring programs share rows."""
    groups = tl.cdiv(K, G)
    group = tl.program_id(0) % groups
    rows = (tl.program_id(0) // groups) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    return rows, group, groups


@triton.jit
def rint(x):
    """The nearest integer, half to even, of |x| < 2**22."""
    return (x + ROUNDER) - ROUNDER


@triton.jit
def group_range(values):
    """Smallest and largest value of each row of a tile, zero counted in (padding is zero and changes neither)."""
    return tl.minimum(tl.min(values, 1), 0.0), tl.maximum(tl.max(values, 1), 0.0)


@triton.jit
def clipped_range(values, clip_ptr, rows, cell, N, CLIPPED: tl.constexpr):
    """The range of each row of a tile, times the row's own share where there is one."""
    lo, hi = group_range(values)
    if CLIPPED:
        share = tl.load(clip_ptr + cell, mask=rows < N, other=1.0)
        lo, hi = lo * share, hi * share
    return lo, hi


@triton.jit
def make_grid(lo, hi, BITS: tl.constexpr, SYMMETRIC: tl.constexpr):
    """Scale, its reciprocal and the zero point of each row, all float32; the scale is an fp16 number."""
    qmax: tl.constexpr = 2**BITS - 1
    span = 2.0 * tl.maximum(-lo, hi) if SYMMETRIC else hi - lo
    raw = tl.div_rn(span, tl.full(span.shape, qmax, tl.float32))
    scale = tl.maximum(raw.to(tl.float16).to(tl.float32), SCALE_FLOOR)
    inv = tl.div_rn(tl.full(scale.shape, 1.0, tl.float32), scale)
    if SYMMETRIC:
        zero = tl.full(scale.shape, 2 ** (BITS - 1), tl.float32)
    else:
        zero = tl.minimum(tl.maximum(rint(-lo * inv), 0.0), qmax)
    return scale, inv, zero


@triton.jit
def encode(values, inv, zero, BITS: tl.constexpr):
    """Codes of a tile, as float32."""
    return tl.minimum(tl.maximum(rint(values * inv[:, None]) + zero[:, None], 0.0), 2**BITS - 1)


@triton.jit
def squared_errors(values, scale, inv, zero, BITS: tl.constexpr):
    """Squared error of each weight of a tile; padding has none."""
    difference = (encode(values, inv, zero, BITS) - zero[:, None]) * scale[:, None] - values
    return difference * difference


@triton.jit
def load_columns(w_ptr, rows, columns, first, length, N, K, WHOLE: tl.constexpr):
    """Weights of some rows at `first + columns` of one group, float32, zero outside.

    `WHOLE` promises that every column is inside the group: then only rows are masked, and loads stay wide.
    """
    inside = (rows < N)[:, None] if WHOLE else (rows < N)[:, None] & (columns < length)[None, :]
    address = w_ptr + rows.to(tl.int64)[:, None] * K + (first + columns)[None, :]
    return tl.load(address, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def store_plane(plane_ptr, packed, rows, row_bytes, first, size, N, C: tl.constexpr, WHOLE: tl.constexpr):
    """Write the packed bytes of one group of some rows."""
    c = tl.arange(0, C)
    inside = (rows < N)[:, None] if WHOLE else (rows < N)[:, None] & (c < size)[None, :]
    address = plane_ptr + rows.to(tl.int64)[:, None] * row_bytes + (first + c)[None, :]
    tl.store(address, packed.to(tl.uint8), mask=inside)


@triton.jit
def pack_tile(codes, BLOCK_ROWS: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Codes [BLOCK_ROWS, TILE] below 2**WIDTH to planar bytes; TILE is the group's length."""
    SLOTS: tl.constexpr = 8 // WIDTH
    planar = tl.reshape(codes, (BLOCK_ROWS, SLOTS, TILE // SLOTS))
    return tl.sum(planar << (tl.arange(0, SLOTS) * WIDTH)[None, :, None], axis=1)


def launch(
    kernel: Any,
    matrix: Float[Tensor, "out in"],
    group_size: int,
    *arguments: Any,
    op: str = "quantize",
    **options: Any,
) -> None:
    """Run `kernel(matrix, rows, columns, *arguments)` over the groups of `matrix`, shaped as `configs` says."""
    rows, columns = matrix.shape
    length = pack.runs(columns, group_size)[0].stride
    if tile_columns(length) > LONGEST_GROUP:
        raise LowbitError(
            f"a group of {length} columns is longer than the {LONGEST_GROUP} of the triton kernels; choose torch"
        )
    bits = options.get("BITS") or max(options.get("WIDTHS", (1,)))
    capability = capability_of(matrix.device)
    shape = launch_shape(op, bits=bits, rows=rows, columns=columns, group=length, capability=capability)
    tile = shape.block_columns
    programs = triton.cdiv(rows, shape.block_rows) * pack.group_count(columns, group_size)
    with torch.cuda.device_of(matrix):
        kernel[(programs,)](
            matrix, rows, columns, *arguments, **options,
            G=length, TILE=tile, BLOCK_ROWS=shape.block_rows, WHOLE=tile == length and columns % length == 0,
            num_warps=shape.num_warps, enable_fp_fusion=False,
        )  # fmt: skip


def refuse_values(
    w: Float[Tensor, "out in"], widths: tuple[int, ...], group_size: int, symmetric: bool, clip: Clip = None
) -> None:
    """Before the launch: NaN, infinity and scales beyond fp16 are refused with the torch backend's own sentence.

    One pass over the weight rules them out for any ordinary one; `reach` is NaN when a weight is.
    """
    lo, hi = torch.aminmax(w)
    reach = torch.maximum(-lo, hi).item()
    if not 2 * reach <= SCALE_MAXIMUM * (2 ** min(widths) - 1):
        for bits in widths:
            torch_backend.group_grid(w, bits, group_size, symmetric, clip)
