"""Binary weights in Triton: one program for some rows of one group, its weights laid out as its bytes hold their signs.

A tile is [rows, 8, bytes]: slot and byte of each column. Packing is then a sum over the slots, for groups of any
length. The launchers take what `torch_binary` takes and return the same bits; error sums agree to 1e-5.
"""

# Triton's annotations describe the compiler's types, not what may be written inside a kernel:
# pyright: reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from lowbit import torch_backend
from lowbit.parts import BinaryKind, BinaryWeight
from lowbit.torch_binary import SplitSearch, best_share, check_reach, empty_binary
from lowbit.triton_common import launch, place, store_plane
from lowbit.variants import Variant, pass_variant


@triton.jit
def _planar(group, K, G: tl.constexpr, TILE: tl.constexpr, WHOLE: tl.constexpr):
    """Columns of one group by slot and byte, which of them exist, and bytes of the group; a short group has fewer."""
    length = G if WHOLE else tl.minimum(G, K - group * G)
    size = TILE // 8 if WHOLE else tl.cdiv(length, 8)
    byte = tl.arange(0, TILE // 8)[None, :]
    columns = tl.arange(0, 8)[:, None] * size + byte
    return group * G + columns, (byte < size) & (columns < length), size


@triton.jit
def _at(rows, columns, K):
    """Places of a planar tile in a matrix of K columns."""
    return rows.to(tl.int64)[:, None, None] * K + columns[None, :, :]


@triton.jit
def _counts(h_ptr, keep_ptr, rows, columns, K, exist, inside, WEIGHTED: tl.constexpr, KEPT: tl.constexpr):
    """How much each weight of a tile counts, float64 where it is not simply whether it exists."""
    counts = inside
    if WEIGHTED:
        h = tl.load(h_ptr + columns, mask=exist, other=0.0).to(tl.float64)
        counts = tl.broadcast_to(h[None, :, :], inside.shape)
    if KEPT:
        kept = tl.load(keep_ptr + _at(rows, columns, K), mask=inside, other=1) != 0
        counts = tl.where(kept, 0.0, counts.to(tl.float64))
    return counts


@triton.jit
def _mean(size, counts, COUNTED: tl.constexpr):
    """Mean of the weights that count, in float64 and rounded once, as an fp16 number in float32."""
    if COUNTED:
        amount = size.to(tl.float64) * counts
        total = tl.sum(tl.sum(counts, 2), 1)
    else:
        amount = tl.where(counts, size, 0.0).to(tl.float64)
        total = tl.sum(tl.sum(counts.to(tl.int32), 2), 1).to(tl.float64)
    mean = tl.sum(tl.sum(amount, 2), 1) / tl.where(total > 0, total, 1.0)
    return mean.to(tl.float32).to(tl.float16).to(tl.float32)


@triton.jit
def _split_means(size, large, counts, COUNTED: tl.constexpr):
    """Mean sizes of the small and of the large weights."""
    if COUNTED:
        small, rest = tl.where(large, 0.0, counts), tl.where(large, counts, 0.0)
    else:
        small, rest = counts & ~large, counts & large
    return _mean(size, small, COUNTED), _mean(size, rest, COUNTED)


@triton.jit
def _signed(positive, size):
    return tl.where(positive, size[:, None, None], -size[:, None, None])


@triton.jit
def _pack_bits(plane_ptr, bits, inside, rows, row_bytes, group, size, N, G: tl.constexpr, C: tl.constexpr):
    """Write one bit of each weight of a tile to its place in a plane."""
    packed = tl.sum((bits & inside).to(tl.int32) << tl.arange(0, 8)[None, :, None], 1)
    store_plane(plane_ptr, packed, rows, row_bytes, group * tl.cdiv(G, 8), size, N, C, False)


@triton.jit
def _binarize_kernel(
    w_ptr, N, K, h_ptr, keep_ptr, share_ptr, magnitude_ptr, first_ptr, second_ptr, row_bytes,
    KIND: tl.constexpr, WEIGHTED: tl.constexpr, KEPT: tl.constexpr, G: tl.constexpr, TILE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Bits and magnitudes of one group of some rows."""
    COUNTED: tl.constexpr = WEIGHTED or KEPT
    PLANES: tl.constexpr = 1 if KIND == "plain" else 2
    rows, group, groups = place(N, K, G, BLOCK_ROWS)
    columns, exist, size = _planar(group, K, G, TILE, WHOLE)
    inside = (rows < N)[:, None, None] & exist[None, :, :]
    values = tl.load(w_ptr + _at(rows, columns, K), mask=inside, other=0.0).to(tl.float32)
    counts = _counts(h_ptr, keep_ptr, rows, columns, K, exist, inside, WEIGHTED, KEPT)
    cell = rows.to(tl.int64) * groups + group
    positive = values >= 0
    if KIND == "split":
        share = tl.load(share_ptr + cell, mask=rows < N, other=0.0)
        sizes = tl.abs(values)
        second = sizes > (tl.max(tl.max(sizes, 2), 1) * share)[:, None, None]
        magnitude, other = _split_means(sizes, second, counts, COUNTED)
    else:
        magnitude = _mean(tl.abs(values), counts, COUNTED)
    if KIND == "residual":
        rest = values - _signed(positive, magnitude)
        second = rest >= 0
        other = _mean(tl.abs(rest), counts, COUNTED)
    tl.store(magnitude_ptr + cell * PLANES, magnitude.to(tl.float16), mask=rows < N)
    _pack_bits(first_ptr, positive, inside, rows, row_bytes, group, size, N, G, TILE // 8)
    if PLANES == 2:
        tl.store(magnitude_ptr + cell * PLANES + 1, other.to(tl.float16), mask=rows < N)
        _pack_bits(second_ptr, second, inside, rows, row_bytes, group, size, N, G, TILE // 8)


@triton.jit
def _split_errors_kernel(
    w_ptr, N, K, h_ptr, shares_ptr, count, error_ptr,
    WEIGHTED: tl.constexpr, G: tl.constexpr, TILE: tl.constexpr, BLOCK_ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The error of one group of some rows when it is split at each share; the weight is read once for all of them."""
    rows, group, groups = place(N, K, G, BLOCK_ROWS)
    columns, exist, _ = _planar(group, K, G, TILE, WHOLE)
    inside = (rows < N)[:, None, None] & exist[None, :, :]
    size = tl.abs(tl.load(w_ptr + _at(rows, columns, K), mask=inside, other=0.0).to(tl.float32))
    counts = _counts(h_ptr, h_ptr, rows, columns, K, exist, inside, WEIGHTED, False)
    if WEIGHTED:
        h = tl.load(h_ptr + columns, mask=exist, other=0.0)
    largest = tl.max(tl.max(size, 2), 1)
    cell = rows.to(tl.int64) * groups + group
    for candidate in range(count):
        large = size > (largest * tl.load(shares_ptr + candidate))[:, None, None]
        low, high = _split_means(size, large, counts, WEIGHTED)
        difference = size - tl.where(large, high[:, None, None], low[:, None, None])
        square = difference * difference
        square = square * h[None, :, :] if WEIGHTED else tl.where(inside, square, 0.0)
        tl.store(error_ptr + cell, tl.sum(tl.sum(square, 2), 1), mask=rows < N)
        cell += N * groups


@triton.jit
def _dequantize_kernel(
    out_ptr, N, K, magnitude_ptr, first_ptr, second_ptr, row_bytes,
    KIND: tl.constexpr, G: tl.constexpr, TILE: tl.constexpr, BLOCK_ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Values of one group of some rows."""
    PLANES: tl.constexpr = 1 if KIND == "plain" else 2
    rows, group, groups = place(N, K, G, BLOCK_ROWS)
    columns, exist, size = _planar(group, K, G, TILE, WHOLE)
    inside = (rows < N)[:, None, None] & exist[None, :, :]
    byte = tl.arange(0, TILE // 8)[None, :]
    address = rows.to(tl.int64)[:, None] * row_bytes + group * tl.cdiv(G, 8) + byte
    here = (rows < N)[:, None] & (byte < size)
    slots = tl.arange(0, 8)[None, :, None]
    positive = (tl.load(first_ptr + address, mask=here, other=0).to(tl.int32)[:, None, :] >> slots) & 1
    cell = rows.to(tl.int64) * groups + group
    magnitude = tl.load(magnitude_ptr + cell * PLANES, mask=rows < N, other=0.0).to(tl.float32)
    values = _signed(positive == 1, magnitude)
    if PLANES == 2:
        second = (tl.load(second_ptr + address, mask=here, other=0).to(tl.int32)[:, None, :] >> slots) & 1
        other = tl.load(magnitude_ptr + cell * PLANES + 1, mask=rows < N, other=0.0).to(tl.float32)
        if KIND == "split":
            values = tl.where(second == 1, _signed(positive == 1, other), values)
        else:
            values += _signed(second == 1, other)
    tl.store(out_ptr + _at(rows, columns, K), values.to(out_ptr.dtype.element_ty), mask=inside)


def binarize(
    w: Float[Tensor, "out in"],
    group_size: int,
    kind: BinaryKind = "plain",
    h: Float32[Tensor, " in"] | None = None,
    keep: Bool[Tensor, "out in"] | None = None,
    share: Float32[Tensor, "out group"] | None = None,
) -> BinaryWeight:
    """See `torch_binary.binarize`."""
    check_reach(w)
    held = empty_binary(w, group_size, kind)
    read = (w if h is None else h, w if keep is None else keep.view(torch.uint8), w if share is None else share)
    options = {"KIND": kind, "WEIGHTED": h is not None, "KEPT": keep is not None}
    launch(_binarize_kernel, w, group_size, *read, *_stored(held), op="binarize", **options)
    return held


def dequantize(weight: BinaryWeight, out: Float[Tensor, "out in"]) -> None:
    """See `torch_binary.dequantize`."""
    launch(_dequantize_kernel, out, weight.group_size, *_stored(weight), op="dequantize_binary", KIND=weight.kind)


def split_errors(
    w: Float[Tensor, "out in"], group_size: int, h: Float32[Tensor, " in"] | None, shares: Float32[Tensor, " share"]
) -> Float32[Tensor, "share out group"]:
    """See `torch_binary.split_errors`."""
    check_reach(w)
    cells = torch.empty((len(shares), *torch_backend.grid_shape(w, group_size)), dtype=torch.float32, device=w.device)
    arguments = (w if h is None else h, shares, len(shares), cells)
    launch(_split_errors_kernel, w, group_size, *arguments, op="split_search", WEIGHTED=h is not None)
    return cells


def split_search(
    w: Float[Tensor, "out in"],
    group_size: int,
    h: Float32[Tensor, " in"] | None,
    shares: Float32[Tensor, " share"],
    across_rows: bool = False,
) -> SplitSearch:
    """See `torch_binary.split_search`."""
    best, error = best_share(split_errors(w, group_size, h, shares), across_rows)
    return SplitSearch(binarize(w, group_size, "split", h, share=shares[best]), best, error)


def _stored(weight: BinaryWeight) -> tuple[Tensor | int, ...]:
    """Kernel arguments for what a binary weight holds; a plane that does not exist is not read."""
    return weight.magnitude, weight.planes[0], weight.planes[-1], weight.planes[0].shape[1]


def variants(capability: int) -> Iterator[Variant]:
    """Every kind, with and without weights and kept entries, on whole and short groups."""
    one = partial(pass_variant, capability=capability)
    shape, h = {"N": "i32", "K": "i32"}, {"h_ptr": "*fp32"}
    stored = {"magnitude_ptr": "*fp16", "first_ptr": "*u8", "second_ptr": "*u8", "row_bytes": "i32"}
    types = {"w_ptr": "*bf16"} | shape | h | {"keep_ptr": "*u8", "share_ptr": "*fp32"} | stored
    for kind, weighted, kept, group in (
        ("plain", False, False, 128), ("plain", True, True, 128), ("residual", True, False, 128),
        ("split", True, False, 128), ("residual", False, True, 100), ("split", False, False, 100),
    ):  # fmt: skip
        options = {"KIND": kind, "WEIGHTED": weighted, "KEPT": kept}
        config = f"{kind}{', weighted' * weighted}{', kept' * kept}, bf16"
        yield one("binarize", config, _binarize_kernel, types, options, group=group)
    types = {"out_ptr": "*bf16"} | shape | stored
    for kind, group in (("plain", 128), ("residual", 128), ("split", 100)):
        yield one("dequantize_binary", kind, _dequantize_kernel, types, {"KIND": kind}, group=group)
    types = {"w_ptr": "*bf16"} | shape | h | {"shares_ptr": "*fp32", "count": "i32", "error_ptr": "*fp32"}
    for weighted, group in ((True, 128), (False, 128), (True, 100)):
        config = f"bf16{', weighted' * weighted}"
        yield one("split_search", config, _split_errors_kernel, types, {"WEIGHTED": weighted}, group=group)
