"""Products by low-bit weights in plain torch: some rows of the weight are dequantized, multiplied and forgotten.

The memory that a product needs beside its result is one buffer of weight rows, whatever the size of the weight. The
buffer is larger than the chunks in which values are made, because a product over too few rows is slow.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from lowbit import torch_sparse
from lowbit.parts import SparseWeight, Weight
from lowbit.torch_mixed import Decoder, columns_by_part, decode_part, fill_rows

CHUNK = {"cpu": 2**20, "cuda": 2**26}
"""Elements of the buffer of weight rows, by device type."""


def matmul(
    x: Float[Tensor, "rows in"], weight: Weight, outliers: SparseWeight | None, compute: torch.dtype
) -> Float[Tensor, "rows out"]:
    """x times the transposed weight, in x's dtype; both are rounded to `compute` and summed in float32 or better."""
    return dense_product(x, weight, outliers, compute, decode_part)


def dense_product(
    x: Float[Tensor, "rows in"], weight: Weight, outliers: SparseWeight | None, compute: torch.dtype, decode: Decoder
) -> Float[Tensor, "rows out"]:
    """The product through dequantized rows that `decode` makes; outliers are merged into them in float32."""
    out, columns = weight.shape
    y = torch.empty((x.shape[0], out), dtype=x.dtype, device=x.device)
    step = min(out, max(1, CHUNK.get(x.device.type, CHUNK["cuda"]) // columns))
    edges = [*range(0, out, step), out]
    merged = None if outliers is None else _Entries(outliers, edges)
    buffer = torch.empty((step, columns), dtype=compute if merged is None else torch.float32, device=x.device)
    layout, given = columns_by_part(weight), x.to(compute)
    for start, stop in pairwise(edges):
        values = buffer[: stop - start]
        fill_rows(layout, slice(start, stop), values, decode)
        if merged is not None:
            merged.add_to(values, start)
        y[:, start:stop] = given @ values.to(compute).t()
    return y


class _Entries:
    """Outliers by rows of the weight; what the device knows of them is asked for once."""

    def __init__(self, sparse: SparseWeight, edges: list[int]) -> None:
        bounds = sparse.row_start[torch.tensor(edges, device=sparse.row_start.device)].tolist()
        self._sparse = sparse
        self._rows = torch_sparse.entry_rows(sparse)
        self._entries = {edge: slice(*bound) for edge, bound in zip(edges[:-1], pairwise(bounds), strict=True)}

    def add_to(self, values: Float[Tensor, "part in"], first: int) -> None:
        """Add the entries of the rows from `first` on to `values`."""
        torch_sparse.merge_rows(values, self._sparse, self._rows - first, self._entries[first])
