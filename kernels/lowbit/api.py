"""The calls of the package: arguments checked, an operator run, its tensors put together.

Every function takes `backend`: "torch", "triton", or None, which leaves the choice to the environment variable
WORKBENCH_KERNELS and then to where the tensors lie (see `dispatch.choose_backend`).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from lowbit import contract, ops, torch_backend, torch_requantize
from lowbit.contract import ErrorSums, Grid, LowbitError, PackedWeight
from lowbit.dispatch import choose_backend
from lowbit.parts import BinaryWeight, MixedWeight, Weight


def quantize(
    w: Float[Tensor, "out in"],
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    clip: Float32[Tensor, "out group"] | None = None,
    backend: str | None = None,
) -> PackedWeight:
    """Round a weight to the nearest level of each group's own grid, and pack the codes.

    Args:
        w: float32, float16 or bfloat16, contiguous, finite.
        bits: 1, 2, 3, 4 or 8.
        group_size: columns that share a scale, the last group of a row may be shorter; -1 is the whole row.
        symmetric: levels lie evenly around zero and no zero points are stored.
        clip: share of each group's range that its grid reaches over (see `clip_search`); None is all of it.
        backend: see the module.

    Raises:
        LowbitError: a bad argument, NaN or infinity in the weight, or a scale beyond fp16.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(bits, group_size)
    clip = contract.check_clip(clip, w, group_size)
    low, high, scale, zero = ops.quantize(w, bits, group_size, symmetric, clip, _name(w, backend))
    planes = (low, high) if high.numel() else (low,)
    rows, columns = w.shape
    return PackedWeight(planes, scale, None if symmetric else zero, (rows, columns), bits, group_size, symmetric)


def group_grid(
    w: Float[Tensor, "out in"],
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    clip: Float32[Tensor, "out group"] | None = None,
) -> Grid:
    """The grid that `quantize` rounds to, for quantizers that choose the codes themselves.

    Always computed by torch: it is a small part of their work.

    Raises:
        LowbitError: as `quantize`.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(bits, group_size)
    clip = contract.check_clip(clip, w, group_size)
    return torch_backend.group_grid(w, bits, group_size, symmetric, clip)


def dequantize(
    weight: Weight,
    *,
    dtype: torch.dtype = torch.float32,
    out: Float[Tensor, "out in"] | None = None,
    backend: str | None = None,
) -> Float[Tensor, "out in"]:
    """The values that a low-bit weight stands for.

    Args:
        weight: a packed, binary or mixed weight.
        dtype: float32 (exact), or float16 or bfloat16 (rounded to nearest; beyond float16's range becomes infinite).
        out: a contiguous buffer of that dtype to write to and return, instead of new memory.
        backend: see the module.

    Raises:
        LowbitError: an unknown dtype, or a buffer that does not fit.
    """
    buffer = contract.output_buffer(weight.shape, device_of(weight), dtype, out)
    _dequantize(weight, buffer.detach(), backend)
    return buffer


def _dequantize(weight: Weight, out: Float[Tensor, "out in"], backend: str | None) -> None:
    if isinstance(weight, MixedWeight):
        for place, part in enumerate(weight.parts):
            values = torch.empty(part.shape, dtype=out.dtype, device=out.device)
            _dequantize(part, values, backend)
            out[:, weight.columns_of(place)] = values
    elif isinstance(weight, BinaryWeight):
        name = _name(weight.magnitude, backend)
        ops.dequantize_binary_into(weight.planes, weight.magnitude, weight.group_size, weight.kind, out, name)
    else:
        name = _name(weight.scale, backend)
        ops.dequantize_into(weight.planes, weight.scale, weight.zero, weight.bits, weight.group_size, out, name)


def errors(
    w: Float[Tensor, "out in"],
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    h: Float[Tensor, " in"] | None = None,
    clip: Float32[Tensor, "out group"] | None = None,
    backend: str | None = None,
    compiled: bool = False,
) -> ErrorSums:
    """What `quantize` would cost, group by group, without packing anything.

    Args:
        w: as for `quantize`, like all that is not named here.
        bits: as for `quantize`.
        group_size: as for `quantize`.
        symmetric: as for `quantize`.
        h: a weight for each input column, such as the diagonal of the Gram matrix of its inputs: the weighted sum is
            then the diagonal estimate of the squared output error.
        clip: as for `quantize`.
        backend: see the module.
        compiled: the torch backend through `torch.compile`, with the same codes; the first call takes seconds.

    Raises:
        LowbitError: as `quantize`; h of another length, negative or not finite; nothing can be compiled here.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(bits, group_size)
    h, clip = contract.check_column_weights(h, w), contract.check_clip(clip, w, group_size)
    if compiled:
        return _compiled(backend).errors(w, bits, group_size, symmetric, h, clip)
    squared, weighted = ops.errors(w, bits, group_size, symmetric, h, clip, _name(w, backend))
    return ErrorSums(squared, None if h is None else weighted)


def error_table(
    w: Float[Tensor, "out in"],
    *,
    widths: Sequence[int],
    group_sizes: Sequence[int],
    symmetric: bool = False,
    h: Float[Tensor, " in"] | None = None,
    backend: str | None = None,
    compiled: bool = False,
) -> Float64[Tensor, "out width size"]:
    """Squared rounding error of each row at every width and group size, so that a slider only reads a table.

    Arguments as for `errors`, with several `widths` and `group_sizes`. Where h is given, sums are weighted.

    Raises:
        LowbitError: as `errors`; no width or no group size.
    """
    w = contract.check_weight(w)
    contract.check_table_options(widths, group_sizes)
    held = contract.check_column_weights(h, w)
    if compiled:
        return _compiled(backend).error_table(w, widths, group_sizes, symmetric, held)
    return ops.error_table(w, list(widths), list(group_sizes), symmetric, held, _name(w, backend))


def requantize(
    w: Float[Tensor, "out in"],
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    h: Float[Tensor, " in"] | None = None,
    clip: Float32[Tensor, "out group"] | None = None,
    out: Float[Tensor, "out in"] | None = None,
    compiled: bool = False,
) -> tuple[Float[Tensor, "out in"], ErrorSums]:
    """The values of `dequantize(quantize(w))` and the sums of `errors` from one pass, with nothing stored; by torch.

    Arguments as for `errors`; `out` as for `dequantize`, float32 when not given, and not the weight itself.

    Raises:
        LowbitError: as `errors` and `dequantize`.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(bits, group_size)
    h, clip = contract.check_column_weights(h, w), contract.check_clip(clip, w, group_size)
    dtype = torch.float32 if out is None else out.dtype
    buffer = contract.output_buffer((w.shape[0], w.shape[1]), w.device, dtype, out)
    run = _compiled(None).requantize if compiled else torch_requantize.requantize
    return buffer, run(w, bits, group_size, symmetric, h, buffer.detach(), clip)


def _compiled(backend: str | None) -> ModuleType:
    """The compiled torch backend; imported when it is asked for."""
    if backend not in (None, "torch"):
        raise LowbitError(f"backend has value {backend!r}, but only torch can be compiled; choose torch")
    return importlib.import_module("lowbit.torch_compiled")


def device_of(weight: Weight) -> torch.device:
    """Where a low-bit weight lies."""
    return (weight.choice if isinstance(weight, MixedWeight) else weight.planes[0]).device


def _name(tensor: Tensor, backend: str | None) -> str:
    """The backend for an operator's arguments, refused here if it cannot run: operators take a plain word."""
    return choose_backend(tensor, backend).name
