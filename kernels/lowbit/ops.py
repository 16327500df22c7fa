"""Every kernel as a `torch.library` operator, so that `torch.compile` and export treat it as one opaque step.

An operator takes and gives plain tensors; `lowbit.api` checks the arguments before and puts the results together
after. The same body serves CPU, CUDA and other tensors, because which backend runs is decided when it runs: by the
argument `backend` ("" leaves the choice open), the environment, or the device (`dispatch.choose_backend`). The shapes
of the results follow from the shapes of the arguments alone, which is what the fake implementations compute.

None of them has a gradient: rounding has none that is of use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lowbit import pack
from lowbit.contract import PackedWeight
from lowbit.dispatch import module
from lowbit.parts import BinaryKind, BinaryWeight


def operator(name: str, *, mutates_args: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as operator `lowbit::<name>` with one body for every device; returns the operator.

    `torch.library.custom_op` would do it in one line, but its wrapper imports torch's compiler, and with it Triton and
    two seconds, at the first call.
    """

    def register(body: Callable[..., Any]) -> Callable[..., Any]:
        schema = torch.library.infer_schema(body, mutates_args=mutates_args)
        torch.library.define(f"lowbit::{name}", schema)
        torch.library.impl(f"lowbit::{name}", "CompositeExplicitAutograd", body)
        return getattr(torch.ops.lowbit, name).default

    return register


def absent(like: Tensor, dtype: torch.dtype) -> Tensor:
    """What stands for a tensor that there is none of: operators return a fixed number of them."""
    return like.new_empty(0, dtype=dtype)


@operator("quantize")
def quantize(
    w: Tensor, bits: int, group_size: int, symmetric: bool, clip: Tensor | None, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Low plane, high plane (empty but at 3 bits), scale, zero points (empty when symmetric)."""
    held = module("quant", w, backend or None).quantize(w, bits, group_size, symmetric, clip)
    low, high = held.planes if len(held.planes) == 2 else (held.planes[0], absent(w, torch.uint8))
    return low, high, held.scale, absent(w, torch.int16) if held.zero is None else held.zero


@torch.library.register_fake("lowbit::quantize")
def _(w, bits, group_size, symmetric, clip, backend):  # type: ignore[no-untyped-def]
    rows, columns = w.shape
    low, *high = pack.empty_planes(rows, columns, bits, group_size, w.device)
    grid = (rows, pack.group_count(columns, group_size))
    zero = absent(w, torch.int16) if symmetric else w.new_empty(grid, dtype=torch.int16)
    return low, high[0] if high else absent(w, torch.uint8), w.new_empty(grid, dtype=torch.float16), zero


@operator("dequantize_into", mutates_args=("out",))
def dequantize_into(
    planes: Sequence[Tensor],
    scale: Tensor,
    zero: Tensor | None,
    bits: int,
    group_size: int,
    out: Tensor,
    backend: str,
) -> None:
    """Write the values to `out` `[out, in]`, rounded to its dtype."""
    rows, columns = out.shape
    held = PackedWeight(tuple(planes), scale, zero, (rows, columns), bits, group_size, zero is None)
    module("quant", scale, backend or None).dequantize(held, out)


@torch.library.register_fake("lowbit::dequantize_into")
def _(planes, scale, zero, bits, group_size, out, backend):  # type: ignore[no-untyped-def]
    return None


@operator("errors")
def errors(
    w: Tensor, bits: int, group_size: int, symmetric: bool, h: Tensor | None, clip: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    """Squared error of each row and group, and the same weighted (empty without `h`)."""
    sums = module("quant", w, backend or None).errors(w, bits, group_size, symmetric, h, clip)
    return sums.squared, absent(w, torch.float32) if sums.weighted is None else sums.weighted


@torch.library.register_fake("lowbit::errors")
def _(w, bits, group_size, symmetric, h, clip, backend):  # type: ignore[no-untyped-def]
    cells = w.new_empty((w.shape[0], pack.group_count(w.shape[1], group_size)), dtype=torch.float32)
    return cells, absent(w, torch.float32) if h is None else torch.empty_like(cells)


@operator("error_table")
def error_table(
    w: Tensor, widths: Sequence[int], group_sizes: Sequence[int], symmetric: bool, h: Tensor | None, backend: str
) -> Tensor:
    """Float64 `[out, width, size]`."""
    run = module("quant", w, backend or None).error_table
    return run(w, tuple(widths), tuple(group_sizes), symmetric, h)


@torch.library.register_fake("lowbit::error_table")
def _(w, widths, group_sizes, symmetric, h, backend):  # type: ignore[no-untyped-def]
    return w.new_empty((w.shape[0], len(widths), len(group_sizes)), dtype=torch.float64)


@operator("dequantize_binary_into", mutates_args=("out",))
def dequantize_binary_into(
    planes: Sequence[Tensor], magnitude: Tensor, group_size: int, kind: str, out: Tensor, backend: str
) -> None:
    """Write the values of a binary weight to `out` `[out, in]`, rounded to its dtype."""
    rows, columns = out.shape
    held = BinaryWeight(tuple(planes), magnitude, (rows, columns), group_size, cast(BinaryKind, kind))
    module("binary", magnitude, backend or None).dequantize(held, out)


@torch.library.register_fake("lowbit::dequantize_binary_into")
def _(planes, magnitude, group_size, kind, out, backend):  # type: ignore[no-untyped-def]
    return None
