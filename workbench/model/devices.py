"""Where a model runs; the only place where a kind of device is named.

`WORKBENCH_DEVICE` is `auto` (the first CUDA card, or else the CPU), `cpu`, `cuda`, `cuda:1` or `mps`. Metal is taken
only when it is asked for by name: it has no float64, in which sums are held, so that statistics and maps refuse there.
The model runs on the device; weights, statistics and gradients are handed to methods on the CPU. A model that is larger
than one card and is given several is spread over them by accelerate (extra `[multi-gpu]`).

A model whose products are rounded (`numbers`) has another digest, so that statistics, cells and results of the two
types never meet.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import fields
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError, shown, unknown
from workbench.model.load import Identity, LoadedModel
from workbench.model.memory import available_memory
from workbench.model.numbers import DEVICE, Choice, choose_type

Loaded = TypeVar("Loaded", bound=LoadedModel)
PROBE_SIDE = 1024
_placed = {"device": "cpu", "products": "float32"}


def devices() -> tuple[str, ...]:
    """The devices that there are, the first of them first choice."""
    cards = tuple(f"cuda:{place}" for place in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    metal = ("mps",) if torch.backends.mps.is_available() else ()
    return (*cards, *metal, "cpu")


def choose_device() -> Choice:
    """The device for the next model.

    Raises:
        WorkbenchError: `WORKBENCH_DEVICE` names one that is not there.
    """
    asked, there = os.environ.get(DEVICE, "").strip().lower() or "auto", devices()
    if asked == "auto":
        first = next(one for one in there if one != "mps")
        return Choice(first, "there is no CUDA card" if first == "cpu" else "the first CUDA card")
    found = "cuda:0" if asked == "cuda" else asked
    if found not in there:
        raise unknown(DEVICE, asked, ("auto", *(("cuda",) if "cuda:0" in there else ()), *there))
    return Choice(found, f"{DEVICE} says so")


def placed() -> dict[str, str]:
    """`device` and `products` of the model that was placed last in this process."""
    return dict(_placed)


def place(loaded: Loaded) -> Loaded:
    """The model on the device and with the numbers that were chosen; done once, right after it was read.

    Raises:
        WorkbenchError: a device or type that there is not, or a card on which it does not fit.
    """
    device = choose_device().name
    if loaded.streamed:
        device = "cpu"  # blocks are read into main memory
    if device != "cpu":
        _move(loaded, device)
    products = choose_type(loaded.folder, device == "cpu").name
    if products == "bfloat16":
        round_products(loaded.model)
        loaded.identity = rounded_identity(loaded.identity)
    _placed.update(device=device, products=products)
    return loaded


def _move(loaded: LoadedModel, device: str) -> None:
    """Onto one card, or spread over all where it is larger than one."""
    model: Any = loaded.model
    needed, free = sum(p.numel() * p.element_size() for p in model.parameters()), free_memory(torch.device(device))
    if needed <= free:
        model.to(device)
    elif torch.cuda.is_available() and torch.cuda.device_count() > 1:
        spread(model)
    else:
        raise WorkbenchError(
            f"model {shown(loaded.identity.id)} needs {needed / 2**30:.2f} GiB and {device} has {free / 2**30:.2f} GiB "
            f"free; set {DEVICE}=cpu"
        )


def spread(model: Any, device_map: dict[str, Any] | None = None) -> Any:
    """The model over several devices, whole blocks on each, by accelerate; inputs and logits stay on the first.

    Args:
        model: the model; its modules are given hooks that carry activations from device to device.
        device_map: module -> device; as accelerate balances it when None.

    Raises:
        WorkbenchError: accelerate is not installed.
    """
    try:
        from accelerate import dispatch_model, infer_auto_device_map  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise WorkbenchError(
            "the model is larger than one card; to spread it over several, install the extra "
            "`pip install 'salience-workbench[multi-gpu]'`"
        ) from None
    if device_map is None:
        whole = getattr(model, "_no_split_modules", None)
        device_map = infer_auto_device_map(model, no_split_module_classes=list(whole or ()))
    return dispatch_model(model, device_map=device_map, force_hooks=True)


def round_products(model: nn.Module) -> None:
    """Let linear layers multiply in bfloat16: inputs and weights are rounded, sums and outputs are float32.

    The weights themselves stay as they are, so that quantizers and gradients see them in full.
    """
    from transformers.pytorch_utils import Conv1D

    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            vars(module)["forward"] = partial(_in_bfloat16, module.forward)


def _in_bfloat16(forward: Any, inputs: Tensor) -> Tensor:
    with torch.autocast(inputs.device.type, torch.bfloat16):
        return forward(inputs).to(inputs.dtype)


class RoundedIdentity(Identity):
    """A model with rounded products: all fields are alike, the digest is another one."""

    @property
    def digest(self) -> str:
        """16 hex digits over the model and the type of its products."""
        return hashlib.sha256(f"{super().digest} bfloat16 products".encode()).hexdigest()[:16]


def rounded_identity(identity: Identity) -> RoundedIdentity:
    """The same model with rounded products."""
    return RoundedIdentity(**{one.name: getattr(identity, one.name) for one in fields(identity)})


def free_memory(device: torch.device) -> int:
    """Bytes that work may take on a device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def name_of(device: str) -> str:
    """What a device is called by its maker."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def product_speeds(seconds: float = 0.4) -> dict[str, float]:
    """Multiply-adds a second of the CPU in each type, from products that are tried for so long at most."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        one = torch.ones(PROBE_SIDE, PROBE_SIDE, dtype=dtype)
        until, best = time.perf_counter() + seconds / 2, 0.0
        while time.perf_counter() < until or best == 0.0:
            start = time.perf_counter()
            torch.mm(one, one)
            best = max(best, PROBE_SIDE**3 / (time.perf_counter() - start))
        found[name] = best
    return found
