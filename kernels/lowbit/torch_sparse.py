"""Sparse outliers in plain torch: added to a product, or merged into a dense weight before it.

Merging is what a CPU should do where it has the dense rows anyway: it costs one pass over the entries, whatever the
number of rows of x.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lowbit.parts import SparseWeight
from lowbit.torch_backend import CHUNK


def add_sparse(y: Float[Tensor, "rows out"], x: Float[Tensor, "rows in"], sparse: SparseWeight) -> Tensor:
    """Add x times the sparse weight's transpose to y, in place; sums are float32 and rounded once to y's dtype.

    Rows of x are taken some at a time, so that their products with the entries stay small. Every output is summed by
    itself in the order of its entries: equal calls give equal bits on any device.
    """
    entries = sparse.values.numel()
    if not entries:
        return y
    columns, values = sparse.columns.long(), sparse.values.float().unsqueeze(1)
    step = max(1, CHUNK.get(y.device.type, CHUNK["cuda"]) // entries)
    for start in range(0, x.shape[0], step):
        rows = slice(start, start + step)
        products = x[rows].t().index_select(0, columns).float().mul_(values)
        sums = torch.segment_reduce(products, "sum", offsets=sparse.row_start.long(), axis=0, initial=0.0)
        y[rows] = sums.t().add_(y[rows]).to(y.dtype)
    return y


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
