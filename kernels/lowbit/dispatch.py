"""Which backend serves a call, and the calls themselves.

An explicit argument decides, then the environment variable WORKBENCH_KERNELS, then where the weight lies. What was
asked for is served or refused, never silently replaced. Triton is imported only when it is chosen.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lowbit import contract, torch_backend
from lowbit.contract import ErrorSums, Grid, LowbitError, PackedWeight

VARIABLE = "WORKBENCH_KERNELS"
BACKENDS = ("torch", "triton")


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """The backend of a call, and why it is that one, in words for people."""

    name: Literal["torch", "triton"]
    reason: str


def choose_backend(tensor: Tensor, backend: str | None = None) -> BackendChoice:
    """The backend for work on `tensor`.

    Args:
        tensor: the weight, or any tensor that lies where the work is to be done.
        backend: "torch" or "triton"; None leaves the choice to WORKBENCH_KERNELS, then to the tensor's device.

    Raises:
        LowbitError: an unknown name, or Triton where it cannot run.
    """
    source = "the argument backend" if backend is not None else f"the environment variable {VARIABLE}"
    asked = backend if backend is not None else os.environ.get(VARIABLE, "").strip()
    if not asked and backend is None:
        return _by_device(tensor)
    if asked not in BACKENDS:
        raise LowbitError(f"{source} has value {str(asked)[:80]!r}; choose one of: {', '.join(BACKENDS)}")
    if asked == "torch":
        return BackendChoice("torch", f"torch: asked for by {source}")
    obstacle = _triton_obstacle(tensor)
    if obstacle is not None:
        raise LowbitError(f"{source} asks for triton, which cannot run here: {obstacle}; choose torch")
    return BackendChoice("triton", f"triton: asked for by {source}")


def quantize(
    w: Float[Tensor, "out in"], *, bits: int, group_size: int, symmetric: bool = False, backend: str | None = None
) -> PackedWeight:
    """Round a weight to the nearest level of each group's own grid, and pack the codes.

    Args:
        w: float32, float16 or bfloat16, contiguous, finite.
        bits: 1, 2, 3, 4 or 8.
        group_size: columns that share a scale, the last group of a row may be shorter; -1 is the whole row.
        symmetric: levels lie evenly around zero and no zero points are stored.
        backend: "torch", "triton" or None (see `choose_backend`).

    Raises:
        LowbitError: a bad argument, NaN or infinity in the weight, or a scale beyond fp16.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(bits, group_size)
    return _module(w, backend).quantize(w, bits, group_size, symmetric)


def group_grid(w: Float[Tensor, "out in"], *, bits: int, group_size: int, symmetric: bool = False) -> Grid:
    """The grid that `quantize` rounds to, for quantizers that choose the codes themselves.

    Always computed by torch: it is a small part of their work.

    Raises:
        LowbitError: as `quantize`.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(bits, group_size)
    return torch_backend.group_grid(w, bits, group_size, symmetric)


def dequantize(
    packed: PackedWeight,
    *,
    dtype: torch.dtype = torch.float32,
    out: Float[Tensor, "out in"] | None = None,
    backend: str | None = None,
) -> Float[Tensor, "out in"]:
    """The values that a packed weight stands for.

    Args:
        packed: from `quantize` or `PackedWeight.from_codes`.
        dtype: float32 (exact), or float16 or bfloat16 (rounded to nearest; beyond float16's range becomes infinite).
        out: a contiguous buffer of that dtype to write to and return, instead of new memory.
        backend: "torch", "triton" or None (see `choose_backend`).

    Raises:
        LowbitError: an unknown dtype, or a buffer that does not fit.
    """
    buffer = contract.output_buffer(packed, dtype, out)
    _module(packed.scale, backend).dequantize(packed, buffer.detach())
    return buffer


def errors(
    w: Float[Tensor, "out in"],
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    h: Float[Tensor, " in"] | None = None,
    backend: str | None = None,
) -> ErrorSums:
    """What `quantize` would cost, group by group, without packing anything.

    Args:
        w: as for `quantize`.
        bits: as for `quantize`.
        group_size: as for `quantize`.
        symmetric: as for `quantize`.
        h: a weight for each input column, such as the diagonal of the Gram matrix of its inputs: the weighted sum is
            then the diagonal estimate of the squared output error.
        backend: as for `quantize`.

    Raises:
        LowbitError: as `quantize`; h of another length, negative or not finite.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(bits, group_size)
    return _module(w, backend).errors(w, bits, group_size, symmetric, contract.check_column_weights(h, w))


def error_table(
    w: Float[Tensor, "out in"],
    *,
    widths: Sequence[int],
    group_sizes: Sequence[int],
    symmetric: bool = False,
    h: Float[Tensor, " in"] | None = None,
    backend: str | None = None,
) -> Float64[Tensor, "out width size"]:
    """Squared rounding error of each row at every width and group size, so that a slider only reads a table.

    Arguments as for `errors`, with several `widths` and `group_sizes`. Where h is given, sums are weighted.

    Raises:
        LowbitError: as `errors`; no width or no group size.
    """
    w = contract.check_weight(w)
    contract.check_table_options(widths, group_sizes)
    held = contract.check_column_weights(h, w)
    return _module(w, backend).error_table(w, tuple(widths), tuple(group_sizes), symmetric, held)


def _module(tensor: Tensor, backend: str | None) -> ModuleType:
    if choose_backend(tensor, backend).name == "torch":
        return torch_backend
    return importlib.import_module("lowbit.triton_quant")


def _by_device(tensor: Tensor) -> BackendChoice:
    if not tensor.is_cuda:
        place = "the CPU" if tensor.device.type == "cpu" else tensor.device
        return BackendChoice("torch", f"torch: the weight is on {place}")
    obstacle = _triton_obstacle(tensor)
    if obstacle is not None:
        return BackendChoice("torch", f"torch: {obstacle}")
    return BackendChoice("triton", f"triton: the weight is on {tensor.device}")


def _triton_obstacle(tensor: Tensor) -> str | None:
    """Why Triton cannot work on `tensor`, or None when it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if tensor.is_cuda:
        return None
    if tensor.device.type != "cpu":
        return f"the weight is on {tensor.device}"
    if not _interpreting():
        return "the weight is on the CPU and triton was not imported with TRITON_INTERPRET=1 set"
    return None


def _interpreting() -> bool:
    """Whether Triton was imported as an interpreter: its own library functions are bound to one mode at import."""
    import triton.language
    from triton.runtime.interpreter import InterpretedFunction

    return isinstance(triton.language.sum, InterpretedFunction)
