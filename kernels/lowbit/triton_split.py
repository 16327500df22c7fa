"""Products in parts: where several programs share the columns of a block of y, one more pass adds their parts up.

Parts are added in their order, without atomics, so that equal calls give equal bits.
"""

# Triton's annotations describe the compiler's types, not what may be written inside a kernel:
# pyright: reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from lowbit.configs import LaunchShape, launch_shape


@triton.jit
def _add_parts_kernel(parts_ptr, y_ptr, total, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """The sum of all parts of some numbers."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), tl.float32)
    for split in range(SPLITS):
        acc += tl.load(parts_ptr + split * total + place, mask=place < total, other=0.0)
    tl.store(y_ptr + place, acc.to(y_ptr.dtype.element_ty), mask=place < total)


def start(
    kernel: Any, grid: tuple[int, ...], shape: LaunchShape, first: Tensor, *arguments: Any, **options: Any
) -> None:
    """Run `kernel(first, *arguments)` on the device of `first`. Products may be fused with sums: none makes codes."""
    with torch.cuda.device_of(first):
        kernel[grid](
            first, *arguments, **options, num_warps=shape.num_warps, num_stages=shape.num_stages,
            enable_fp_fusion=True,
        )  # fmt: skip


def empty_parts(
    x: Float[Tensor, "rows in"], out: int, splits: int, dtype: torch.dtype
) -> Float[Tensor, "split rows out"]:
    """Room for the parts of a product: float32, unless the only part is the product itself."""
    held = _stored(dtype, x) if splits == 1 else torch.float32
    return torch.empty((splits, x.shape[0], out), dtype=held, device=x.device)


def add_parts(parts: Float[Tensor, "split rows out"], dtype: torch.dtype) -> Float[Tensor, "rows out"]:
    """The product, rounded to `dtype` once."""
    if parts.shape[0] == 1:
        return parts[0].to(dtype)
    y = torch.empty(parts.shape[1:], dtype=_stored(dtype, parts), device=parts.device)
    shape = launch_shape("sum_splits", bits=1, rows=parts.shape[1])
    grid = (triton.cdiv(y.numel(), shape.block_rows),)
    start(_add_parts_kernel, grid, shape, parts, y, y.numel(), SPLITS=parts.shape[0], BLOCK=shape.block_rows)
    return y.to(dtype)


def _stored(dtype: torch.dtype, like: Tensor) -> torch.dtype:
    """What a kernel writes: the interpreter cuts bfloat16 off where a GPU rounds it."""
    return dtype if like.is_cuda else torch.float32
