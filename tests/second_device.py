"""A second device that exists on every machine: its tensors hold their values on the CPU and say that they do not.

Under `SecondDevice()` a product of a tensor that lies there with one that does not is an error, as it is between the
CPU and a card, and so is `.numpy()`. It goes by the name of torch's `lazy` device, the one of those that every build
knows which neither torch nor this project treats apart, as both do with `meta`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from workbench.model.load import LoadedModel

NAME = torch.device("lazy", 0)
ACROSS = ("copy_", "_to_copy", "index", "index_put_", "index_put")
"""Operations whose arguments may lie in two places, as they may with a card."""

ON_THE_CPU = ("_local_scalar_dense", "equal", "allclose")


class There(torch.Tensor):
    """A tensor on the second device."""

    lying: torch.Tensor

    @staticmethod
    def __new__(cls, lying: torch.Tensor) -> There:
        made: Any = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, lying.size(), strides=lying.stride(), dtype=lying.dtype, device=NAME, requires_grad=lying.requires_grad
        )
        made.lying = lying
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carry_out(func, args, kwargs or {})

    @property
    def data(self) -> There:  # type: ignore[override]
        """The same values without their history."""
        return There(self.lying.detach())

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        self.lying = _inner(value)

    def data_ptr(self) -> int:
        """Where the values really lie."""
        return self.lying.data_ptr()

    def tolist(self) -> Any:
        """Values as numbers, which a card gives too."""
        return self.lying.tolist()


class SecondDevice(TorchDispatchMode):
    """While it is open, tensors can be sent to the second device and made there."""

    def __enter__(self) -> Any:
        self.numbers = _FromNumbers()
        self.numbers.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.numbers.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = (kwargs or {}).get("device")
        there = asked is not None and torch.device(asked).type == NAME.type
        if there or any(isinstance(one, There) for one in tree_leaves((args, kwargs))):
            return _carry_out(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _carry_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, asked = func.overloadpacket.__name__, kwargs.get("device")
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    there = [one for one in tensors if isinstance(one, There)]
    if there and name not in ACROSS and any(one.dim() for one in tensors if not isinstance(one, There)):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} was given some on each")
    settings = {**kwargs, **({} if asked is None else {"device": torch.device("cpu")})}
    found = func(*tree_map(_inner, args), **tree_map(_inner, settings))
    if name in ON_THE_CPU:
        return found
    if name.endswith("_") and not name.startswith("_"):
        return args[0]
    goes = bool(there) if asked is None else torch.device(asked).type == NAME.type
    return tree_map(lambda one: There(one) if goes and isinstance(one, torch.Tensor) else one, found)


class _FromNumbers(TorchFunctionMode):
    """Tensors out of Python's numbers, which torch makes on their device with no dispatch mode looking on."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        settings = dict(kwargs or {})
        asked = settings.get("device")
        if func in (torch.tensor, torch.as_tensor) and asked is not None and torch.device(asked).type == NAME.type:
            return There(func(*args, **{**settings, "device": None}))
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            args = (args[0], _lists_as_tensors(args[1]), *args[2:])
        return func(*args, **settings)


def _lists_as_tensors(index: Any) -> Any:
    """Lists of places made into tensors here: torch would make them on the device with no mode looking on."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(torch.tensor(one) if isinstance(one, list) else one for one in parts)


def _inner(one: Any) -> Any:
    return one.lying if isinstance(one, There) else one


def moved(one: Any) -> Any:
    """A tensor, or a dataclass with all the tensors that it holds, on the second device."""
    if isinstance(one, torch.Tensor):
        return There(one.clone())
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        return dataclasses.replace(one, **{field.name: moved(getattr(one, field.name)) for field in fields(one)})
    return one


def send(loaded: LoadedModel) -> LoadedModel:
    """The model with all that it holds on the second device; shared weights stay shared."""
    sent: dict[int, nn.Parameter] = {}
    for module in loaded.model.modules():
        for name, held in list(module._parameters.items()):
            if held is not None:
                known = sent.setdefault(id(held), nn.Parameter(There(held.data), requires_grad=False))
                module._parameters[name] = known
        for name, held in list(module._buffers.items()):
            module._buffers[name] = None if held is None else There(held)
    return loaded
