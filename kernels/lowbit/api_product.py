"""The product with a low-bit weight: arguments checked, backend and product chosen, rows of x laid flat."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lowbit import dispatch
from lowbit.contract import WEIGHT_DTYPES, LowbitError
from lowbit.parts import MixedWeight, SparseWeight, Weight

NAMES = ", ".join(str(dtype).removeprefix("torch.") for dtype in WEIGHT_DTYPES)


def matmul(
    x: Float[Tensor, "... in"],
    weight: Weight,
    outliers: SparseWeight | None = None,
    *,
    backend: str | None = None,
    compute: torch.dtype | None = None,
) -> Float[Tensor, "... out"]:
    """Multiply x by a low-bit weight, as `torch.nn.functional.linear(x, dequantized)` would; without a gradient.

    Values are rounded to the dtype of the computation and their products summed in float32. Which kernel does it is
    `rule.choose_product`'s choice. A Triton `gemv` computes in float32 whatever is asked for: it waits for memory.

    Args:
        x: float32, float16 or bfloat16, any number of leading axes.
        weight: packed, binary or mixed.
        outliers: entries that are added to the weight.
        backend: "torch", "triton", or None (see `dispatch.choose_backend`).
        compute: dtype of the operands: float32, float16 or bfloat16; None is x's. Values beyond float16's range
            become infinite in it.

    Returns:
        The product in x's dtype.

    Raises:
        LowbitError: shapes, dtypes or devices that do not fit, or a backend that cannot run.
    """
    compute = x.dtype if compute is None else compute
    _check(x, weight, outliers, compute)
    device = device_of(weight)
    if x.device != device:
        raise LowbitError(f"x is on {x.device}, but the weight is on {device}")
    flat = x.detach().reshape(-1, x.shape[-1]).contiguous()
    run = dispatch.module("matmul", flat, backend).matmul
    y = run(flat, weight, outliers, compute) if flat.shape[0] else flat.new_empty((0, weight.shape[0]))
    return y.view(*x.shape[:-1], weight.shape[0])


def device_of(weight: Weight) -> torch.device:
    """Where a low-bit weight lies."""
    return (weight.choice if isinstance(weight, MixedWeight) else weight.planes[0]).device


def _check(x: Tensor, weight: Weight, outliers: SparseWeight | None, compute: torch.dtype) -> None:
    for name, dtype in (("x", x.dtype), ("compute", compute)):
        if dtype not in WEIGHT_DTYPES:
            raise LowbitError(f"{name} has dtype {str(dtype).removeprefix('torch.')}; choose one of: {NAMES}")
    if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise LowbitError(f"x has shape {tuple(x.shape)}, but the weight takes {weight.shape[1]} columns")
    if outliers is not None and outliers.shape != weight.shape:
        raise LowbitError(f"the outliers have shape {outliers.shape}, but the weight has shape {weight.shape}")
    if outliers is not None and outliers.values.device != device_of(weight):
        raise LowbitError(f"the outliers are on {outliers.values.device}, but the weight is on {device_of(weight)}")
