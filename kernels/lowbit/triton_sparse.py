"""Sparse outliers in Triton: a program adds the entries of a few rows of the weight to its own block of y.

Each program owns what it writes, so rows with many entries are slower but nothing is added atomically.
"""

# Triton's annotations describe the compiler's types, not what may be written inside a kernel:
# pyright: reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from lowbit.configs import capability_of, launch_shape
from lowbit.parts import SparseWeight
from lowbit.triton_split import start


@triton.jit
def _add_sparse_kernel(
    y_ptr, x_ptr, M, N, K, value_ptr, column_ptr, start_ptr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_ENTRIES: tl.constexpr,
):  # fmt: skip
    """Add a block of x times the entries of some rows to a block of y, in the order of the entries."""
    blocks = tl.cdiv(M, BLOCK_M)
    rm = (tl.program_id(0) % blocks) * BLOCK_M + tl.arange(0, BLOCK_M)
    rn = (tl.program_id(0) // blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    start = tl.load(start_ptr + rn, mask=rn < N, other=0)
    stop = tl.load(start_ptr + rn + 1, mask=rn < N, other=0)
    x_rows = x_ptr + rm.to(tl.int64)[:, None, None] * K
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for done in range(0, tl.max(stop - start, 0), BLOCK_ENTRIES):
        entry = (start + done)[:, None] + tl.arange(0, BLOCK_ENTRIES)[None, :]
        real = entry < stop[:, None]
        values = tl.load(value_ptr + entry, mask=real, other=0.0).to(tl.float32)
        columns = tl.load(column_ptr + entry, mask=real, other=0)
        x = tl.load(x_rows + columns[None], mask=(rm < M)[:, None, None] & real[None], other=0.0).to(tl.float32)
        acc += tl.sum(x * values[None], 2)
    address = y_ptr + rm.to(tl.int64)[:, None] * N + rn[None, :]
    inside = (rm < M)[:, None] & (rn < N)[None, :]
    total = tl.load(address, mask=inside, other=0.0).to(tl.float32) + acc
    tl.store(address, total.to(y_ptr.dtype.element_ty), mask=inside)


def add_sparse(y: Float[Tensor, "rows out"], x: Float[Tensor, "rows in"], sparse: SparseWeight) -> Tensor:
    """See `torch_sparse.add_sparse`; y and x are contiguous."""
    (rows, columns), out = x.shape, sparse.shape[0]
    shape = launch_shape("add_sparse", bits=1, rows=rows, capability=capability_of(x.device))
    blocks = triton.cdiv(rows, shape.block_inputs) * triton.cdiv(out, shape.block_rows)
    start(
        _add_sparse_kernel, (blocks,), shape, y, x, rows, out, columns, sparse.values, sparse.columns,
        sparse.row_start, BLOCK_M=shape.block_inputs, BLOCK_N=shape.block_rows, BLOCK_ENTRIES=shape.block_columns,
    )  # fmt: skip
    return y
