"""The products and the searches as `torch.library` operators; see `ops` for how they are made and chosen between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from lowbit import pack
from lowbit.dispatch import module
from lowbit.layout import sparse_from, weight_from
from lowbit.ops import absent, operator
from lowbit.parts import PLANES, BinaryKind


def _cells(w: Tensor, group_size: int, dtype: torch.dtype) -> Tensor:
    """Room for a number a row and group."""
    return w.new_empty((w.shape[0], pack.group_count(w.shape[1], group_size)), dtype=dtype)


@operator("matmul")
def matmul(
    x: Tensor,
    weight: Sequence[Tensor],
    layout: str,
    rows: int,
    outliers: Sequence[Tensor],
    compute: torch.dtype,
    backend: str,
) -> Tensor:
    """`[rows of x, rows]` in x's dtype; `rows` are the weight's, and no outliers are an empty list."""
    held = weight_from(layout, weight)
    sparse = sparse_from(outliers, held.shape)
    return module("matmul", x, backend or None).matmul(x, held, sparse, compute)


@torch.library.register_fake("lowbit::matmul")
def _(x, weight, layout, rows, outliers, compute, backend):  # type: ignore[no-untyped-def]
    return x.new_empty((x.shape[0], rows))


@operator("add_sparse_into", mutates_args=("y",))
def add_sparse_into(y: Tensor, x: Tensor, values: Tensor, columns: Tensor, row_start: Tensor, backend: str) -> None:
    """Add x `[rows, in]` times the transposed sparse weight to y `[rows, out]`."""
    sparse = sparse_from([values, columns, row_start], (y.shape[1], x.shape[1]))
    module("sparse", x, backend or None).add_sparse(y, x, sparse)


@torch.library.register_fake("lowbit::add_sparse_into")
def _(y, x, values, columns, row_start, backend):  # type: ignore[no-untyped-def]
    return None


@operator("clip_search")
def clip_search(
    w: Tensor, bits: int, group_size: int, symmetric: bool, h: Tensor | None, ratios: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """Place of the best ratio of each group's range, int64, and its error, float32, both `[out, group]`."""
    found = module("search", w, backend or None).clip_search(w, bits, group_size, symmetric, h, ratios)
    return found.best, found.error


@torch.library.register_fake("lowbit::clip_search")
def _(w, bits, group_size, symmetric, h, ratios, backend):  # type: ignore[no-untyped-def]
    return _cells(w, group_size, torch.int64), _cells(w, group_size, torch.float32)


@operator("alpha_search")
def alpha_search(
    w: Tensor, bits: int, group_size: int, symmetric: bool, h: Tensor | None, column_scales: Tensor, backend: str
) -> Tensor:
    """Error of the whole matrix under each candidate's column scales, float64 `[candidate]`."""
    return module("search", w, backend or None).alpha_search(w, bits, group_size, symmetric, h, column_scales)


@torch.library.register_fake("lowbit::alpha_search")
def _(w, bits, group_size, symmetric, h, column_scales, backend):  # type: ignore[no-untyped-def]
    return w.new_empty(column_scales.shape[0], dtype=torch.float64)


@operator("binarize")
def binarize(
    w: Tensor, group_size: int, kind: str, h: Tensor | None, keep: Tensor | None, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Sign plane, second plane (empty when plain), magnitudes."""
    held = module("binary", w, backend or None).binarize(w, group_size, cast(BinaryKind, kind), h, keep)
    return held.planes[0], held.planes[1] if len(held.planes) > 1 else absent(w, torch.uint8), held.magnitude


@torch.library.register_fake("lowbit::binarize")
def _(w, group_size, kind, h, keep, backend):  # type: ignore[no-untyped-def]
    return _binary_room(w, group_size, kind)


@operator("split_search")
def split_search(
    w: Tensor, group_size: int, h: Tensor | None, shares: Tensor, across_rows: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Both planes and the magnitudes of the split weight; place of the best share and its error `[out, group]`."""
    found = module("binary", w, backend or None).split_search(w, group_size, h, shares, across_rows)
    return (*found.weight.planes, found.weight.magnitude, found.best, found.error)


@torch.library.register_fake("lowbit::split_search")
def _(w, group_size, h, shares, across_rows, backend):  # type: ignore[no-untyped-def]
    room = _binary_room(w, group_size, "split")
    return (*room, _cells(w, group_size, torch.int64), _cells(w, group_size, torch.float32))


def _binary_room(w: Tensor, group_size: int, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = w.shape
    planes = [pack.empty_planes(rows, columns, 1, group_size, w.device)[0] for _ in range(PLANES[kind])]
    groups = pack.group_count(columns, group_size)
    magnitude = w.new_empty((rows, groups, PLANES[kind]), dtype=torch.float16)
    return planes[0], planes[1] if len(planes) > 1 else absent(w, torch.uint8), magnitude
