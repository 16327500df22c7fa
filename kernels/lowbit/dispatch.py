"""Which backend serves a call.

An explicit argument decides, then the environment variable WORKBENCH_KERNELS, then where the weight lies. What was
asked for is served or refused, never silently replaced. Triton is imported only when it is chosen.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from torch import Tensor

from lowbit.contract import LowbitError

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


def module(job: str, tensor: Tensor, backend: str | None) -> ModuleType:
    """The module that does a kind of work on `tensor`: `lowbit.torch_<job>` or `lowbit.triton_<job>`.

    Raises:
        LowbitError: as `choose_backend`.
    """
    name = f"{choose_backend(tensor, backend).name}_{job}"
    return importlib.import_module(f"lowbit.{name.replace('torch_quant', 'torch_backend')}")


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
