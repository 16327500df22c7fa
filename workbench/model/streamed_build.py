"""A model that reads its blocks when they run: built without memory for them, everything else as it is in any model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from workbench.model.families import understood
from workbench.model.memory import keep_heap_small
from workbench.model.stored_names import names_in
from workbench.model.stored_weights import StoredWeights, check_finite, find_stored, read_tensor
from workbench.model.streaming import WeightStream, attach
from workbench.model.tensor_files import StoredTensor


@dataclass(frozen=True)
class Layout:
    """How the parameters of a model are spread, from shapes alone.

    Attributes:
        blocks: path of a block -> names of its parameters.
        outside: names of all others, one of each that share their values.
        total_bytes: what all take in float32.
        outside_bytes: what those in no block take.
        block_bytes: what the largest block takes.
        widest: the longest side of any parameter of a block.
        largest: numbers in the largest parameter of a block.
    """

    blocks: Mapping[str, Sequence[str]]
    outside: Sequence[str]
    total_bytes: int
    outside_bytes: int
    block_bytes: int
    widest: int
    largest: int


def layout_of(skeleton: nn.Module) -> Layout:
    """The layout of a model whose parameters may lie on the meta device.

    A block is a module with a number, as `blocks.block_path` takes it: up to the first number in a parameter's name.
    """
    blocks: dict[str, list[str]] = {}
    outside = []
    for name, _ in skeleton.named_parameters():
        match = re.match(r"(.*?\.\d+)\.", name)
        if match:
            blocks.setdefault(match[1], []).append(name)
        else:
            outside.append(name)
    shapes = {name: parameter.shape for name, parameter in skeleton.named_parameters()}
    held = {path: _bytes(shapes[name] for name in names) for path, names in blocks.items()}
    apart = _bytes(shapes[name] for name in outside)
    widest = max((side for names in blocks.values() for name in names for side in shapes[name]), default=1)
    largest = max((shapes[name].numel() for names in blocks.values() for name in names), default=0)
    total, block = apart + sum(held.values()), max(held.values(), default=0)
    return Layout(blocks, outside, total, apart, block, widest, largest)


def _bytes(shapes: Iterable[torch.Size]) -> int:
    return sum(4 * shape.numel() for shape in shapes)


def build_streamed(
    folder: Path, made: Callable[[], transformers.PreTrainedModel], tensors: Mapping[str, StoredTensor], room: int
) -> transformers.PreTrainedModel:
    """The model in evaluation mode, its blocks on the meta device, every weight looked at once.

    Args:
        folder: for messages only.
        made: builds the model.
        tensors: the stored tensors, their shapes checked.
        room: bytes that blocks may take in memory.

    Raises:
        WorkbenchError: weights that are not finite, or parameters that are made of several stored tensors.
    """
    keep_heap_small()
    with understood(folder), _without_memory():
        model = made()
    layout = layout_of(model)
    inside = [name for names in layout.blocks.values() for name in names]
    named = names_in(model, tensors)
    shapes = {name: model.get_parameter(name).shape for name in (*layout.outside, *inside)}
    stored = find_stored(shapes, named, folder.name)
    shared = _names_of(model)
    for name in layout.outside:
        values = read_tensor(stored[name])
        check_finite(values, stored[name])
        _put(model, shared[id(model.get_parameter(name))], nn.Parameter(values, requires_grad=False))
    _read_buffers(model, named.plain)
    for name in inside:
        check_finite(read_tensor(stored[name]), stored[name])
    weights = StoredWeights({name: stored[name] for name in inside})
    attach(model, WeightStream(weights, layout.blocks, room), list(layout.blocks))
    return model.eval().requires_grad_(False)


@contextmanager
def _without_memory() -> Iterator[None]:
    """Parameters become ones on the meta device when a module takes them; buffers keep their values."""
    plain = nn.Module.register_parameter

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        plain(self, name, param)
        if param is not None and not param.is_meta:
            self._parameters[name] = nn.Parameter(param.data.to("meta"), requires_grad=False)

    nn.Module.register_parameter = register
    try:
        yield
    finally:
        nn.Module.register_parameter = plain


def _names_of(model: nn.Module) -> dict[int, list[str]]:
    """Parameter -> all names that it has in the model."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


def _put(model: nn.Module, names: Sequence[str], parameter: nn.Parameter) -> None:
    for name in names:
        owner, _, key = name.rpartition(".")
        model.get_submodule(owner)._parameters[key] = parameter


def _read_buffers(model: nn.Module, tensors: Mapping[str, StoredTensor]) -> None:
    """Buffers that the model would save are read, those that it computes are left."""
    saved = set(model.state_dict())
    for name, buffer in model.named_buffers():
        stored = tensors.get(name) if name in saved else None
        if stored is not None and tuple(stored.shape) == tuple(buffer.shape):
            values: Tensor = read_tensor(stored)
            buffer.copy_(values.to(torch.get_default_dtype()) if buffer.is_floating_point() else values)
