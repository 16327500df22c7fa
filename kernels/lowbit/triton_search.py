"""The searches in Triton: a tile of the weight is read once and stays in registers while all candidates are tried.

The launchers take what `torch_search` takes. Their error sums agree with it to 1e-5, so that the chosen ratio may be
another one where two are as good as that.
"""

# Triton's annotations describe the compiler's types, not what may be written inside a kernel:
# pyright: reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from lowbit import torch_backend
from lowbit.contract import SCALE_MAXIMUM
from lowbit.torch_search import ClipSearch
from lowbit.triton_common import (
    encode,
    group_range,
    launch,
    load_columns,
    make_grid,
    place,
    refuse_values,
    squared_errors,
)
from lowbit.variants import Variant, pass_variant


@triton.jit
def _clip_search_kernel(
    w_ptr, N, K, h_ptr, ratios_ptr, count, best_ptr, error_ptr,
    BITS: tl.constexpr, SYMMETRIC: tl.constexpr, WEIGHTED: tl.constexpr, G: tl.constexpr, TILE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The best share of the range of one group of some rows."""
    rows, group, groups = place(N, K, G, BLOCK_ROWS)
    length = tl.minimum(G, K - group * G)
    columns = tl.arange(0, TILE)
    values = load_columns(w_ptr, rows, columns, group * G, length, N, K, WHOLE)
    if WEIGHTED:
        h = tl.load(h_ptr + group * G + columns, mask=columns < length, other=0.0)
    lo, hi = group_range(values)
    least = tl.full((BLOCK_ROWS,), float("inf"), tl.float32)
    best = tl.zeros((BLOCK_ROWS,), tl.int32)
    for candidate in range(count):
        ratio = tl.load(ratios_ptr + candidate)
        scale, inv, zero = make_grid(lo * ratio, hi * ratio, BITS, SYMMETRIC)
        square = squared_errors(values, scale, inv, zero, BITS)
        if WEIGHTED:
            square = square * h[None, :]
        error = tl.sum(square, 1)
        better = error < least
        least = tl.where(better, error, least)
        best = tl.where(better, candidate, best)
    cell = rows.to(tl.int64) * groups + group
    tl.store(best_ptr + cell, best.to(tl.int64), mask=rows < N)
    tl.store(error_ptr + cell, least, mask=rows < N)


@triton.jit
def _alpha_search_kernel(
    w_ptr, N, K, h_ptr, column_scales_ptr, count, error_ptr,
    BITS: tl.constexpr, SYMMETRIC: tl.constexpr, WEIGHTED: tl.constexpr, G: tl.constexpr, TILE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The error of one group of some rows under each candidate's column scales."""
    rows, group, groups = place(N, K, G, BLOCK_ROWS)
    length = tl.minimum(G, K - group * G)
    columns = tl.arange(0, TILE)
    values = load_columns(w_ptr, rows, columns, group * G, length, N, K, WHOLE)
    if WEIGHTED:
        h = tl.load(h_ptr + group * G + columns, mask=columns < length, other=0.0)
    cell = rows.to(tl.int64) * groups + group
    scale_address = column_scales_ptr + (group * G + columns).to(tl.int64)
    for _ in range(count):
        by_column = tl.load(scale_address, mask=columns < length, other=1.0)[None, :]
        scaled = values * by_column
        lo, hi = group_range(scaled)
        scale, inv, zero = make_grid(lo, hi, BITS, SYMMETRIC)
        rounded = (encode(scaled, inv, zero, BITS) - zero[:, None]) * scale[:, None]
        difference = tl.div_rn(rounded, tl.broadcast_to(by_column, rounded.shape)) - values
        square = difference * difference
        if WEIGHTED:
            square = square * h[None, :]
        tl.store(error_ptr + cell, tl.sum(square, 1), mask=rows < N)
        cell += N * groups
        scale_address += K


def clip_search(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    ratios: Float32[Tensor, " ratio"],
) -> ClipSearch:
    """See `torch_search.clip_search`."""
    shape = torch_backend.grid_shape(w, group_size)
    widest = ratios.max().expand(shape)
    refuse_values(w, (bits,), group_size, symmetric, widest)
    best = torch.empty(shape, dtype=torch.int64, device=w.device)
    error = torch.empty(shape, dtype=torch.float32, device=w.device)
    arguments = (w if h is None else h, ratios, len(ratios), best, error)
    options = {"BITS": bits, "SYMMETRIC": symmetric, "WEIGHTED": h is not None}
    launch(_clip_search_kernel, w, group_size, *arguments, op="clip_search", **options)
    return ClipSearch(best, error)


def alpha_search(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    column_scales: Float32[Tensor, "candidate in"],
) -> Float64[Tensor, " candidate"]:
    """See `torch_search.alpha_search`."""
    _refuse_scaled(w, bits, group_size, symmetric, column_scales)
    count = len(column_scales)
    error = torch.empty((count, *torch_backend.grid_shape(w, group_size)), dtype=torch.float32, device=w.device)
    arguments = (w if h is None else h, column_scales, count, error)
    options = {"BITS": bits, "SYMMETRIC": symmetric, "WEIGHTED": h is not None}
    launch(_alpha_search_kernel, w, group_size, *arguments, op="alpha_search", **options)
    return error.sum((1, 2), dtype=torch.float64)


def _refuse_scaled(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    column_scales: Float32[Tensor, "candidate in"],
) -> None:
    """As `triton_common.refuse_values`, for a weight whose columns are multiplied first."""
    reach = torch.stack(torch.aminmax(w)).abs().max().item() * column_scales.max().item()
    if not 2 * reach <= SCALE_MAXIMUM * (2**bits - 1):
        for column_scale in column_scales:
            torch_backend.group_grid(w * column_scale, bits, group_size, symmetric)


def variants(capability: int) -> Iterator[Variant]:
    """Both searches: the schemes, whole and short groups, with and without weights."""
    matrix = {"w_ptr": "*bf16", "N": "i32", "K": "i32", "h_ptr": "*fp32"}
    clip = matrix | {"ratios_ptr": "*fp32", "count": "i32", "best_ptr": "*i64", "error_ptr": "*fp32"}
    alpha = matrix | {"column_scales_ptr": "*fp32", "count": "i32", "error_ptr": "*fp32"}
    for bits, symmetric, weighted, group in ((3, False, True, 128), (4, True, True, 128), (2, False, False, 100)):
        options = {"BITS": bits, "SYMMETRIC": symmetric, "WEIGHTED": weighted}
        config = f"{bits} bit{', symmetric' * symmetric}{', weighted' * weighted}, bf16"
        for name, kernel, types in (
            ("clip_search", _clip_search_kernel, clip),
            ("alpha_search", _alpha_search_kernel, alpha),
        ):
            yield pass_variant(name, config, kernel, types, options, capability=capability, group=group)
