"""Sparse outliers in plain torch: added to a product, or merged into a dense weight before it.

Merging is what a CPU should do where it has the dense rows anyway: it costs one pass over the entries, whatever the
number of rows of x.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lowbit.parts import SparseWeight
from lowbit.torch_backend import CHUNK


def add_sparse(y: Float[Tensor, "rows out"], x: Float[Tensor, "rows in"], sparse: SparseWeight) -> Tensor:
    """Add x times the sparse weight's transpose to y, in place; sums are float32 and rounded once to y's dtype.

    Rows of the weight are taken some at a time, so that the products of their entries stay in the cache. Every output
    is summed by itself in the order of its entries: equal calls give equal bits on any device.
    """
    by_column = x.t().to(torch.float32).contiguous()
    for rows, entries in _some_rows(sparse, x.shape[0]):
        products = by_column.index_select(0, sparse.columns[entries].long())
        products.mul_(sparse.values[entries].float().unsqueeze(1))
        offsets = sparse.row_start[rows.start : rows.stop + 1].long() - entries.start
        sums = torch.segment_reduce(products, "sum", offsets=offsets, axis=0, initial=0.0)
        y[:, rows] = sums.t().add_(y[:, rows]).to(y.dtype)
    return y


def _some_rows(sparse: SparseWeight, inputs: int) -> Iterator[tuple[slice, slice]]:
    """Rows of the weight and their entries, a few at a time; where there are no entries, nothing."""
    total, out = sparse.values.numel(), sparse.shape[0]
    chunk = CHUNK.get(sparse.values.device.type, CHUNK["cuda"])
    step = max(1, chunk * out // max(1, total * inputs))
    edges = [*range(0, out, step), out]
    bounds = sparse.row_start[torch.tensor(edges, device=sparse.row_start.device)].tolist()
    for rows, entries in zip(pairwise(edges), pairwise(bounds), strict=True):
        if entries[0] < entries[1]:
            yield slice(*rows), slice(*entries)


def merge_sparse(dense: Float[Tensor, "out in"], sparse: SparseWeight) -> Tensor:
    """Add the entries to a dense weight, in place."""
    return merge_rows(dense, sparse, entry_rows(sparse), slice(0, sparse.values.numel()))


def entry_rows(sparse: SparseWeight) -> Int64[Tensor, " entry"]:
    """The row of each entry."""
    rows = torch.arange(sparse.shape[0], device=sparse.row_start.device)
    return rows.repeat_interleave(sparse.row_start.diff(), output_size=sparse.values.numel())


def merge_rows(
    dense: Float[Tensor, "part in"], sparse: SparseWeight, rows: Int64[Tensor, " entry"], entries: slice
) -> Tensor:
    """Add some entries to the rows of `dense` that `rows` counts for each of them, in place."""
    values = sparse.values[entries].to(dense.dtype)
    return dense.index_put_((rows[entries], sparse.columns[entries].long()), values, accumulate=True)
