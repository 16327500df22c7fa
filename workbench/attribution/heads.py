"""Every attention of a forward pass as it happens: its probabilities, what its block was given, what matrices did.

An attention module is told by what it returns, as in `tap`; its block is the module that called it. Nothing here knows
a family by name. Left out: attention whose matrices sit in modules of their own inside the attention module.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.attribution.adapter import Adapter
from workbench.attribution.tap import eager_attention, probabilities
from workbench.errors import WorkbenchError
from workbench.model.work_room import check_maps


class MatrixCall(NamedTuple):
    """One call of a module with a matrix for its weight."""

    module: nn.Module
    given: Tensor
    gave: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class AttentionLayer:
    """The attention of one layer.

    Attributes:
        index: counted from 0.
        block: the module that called it, a transformer block.
        maps: its probabilities as they were computed, a part of the graph where there is one.
        hidden: the hidden states that the block was given.
        calls: what the matrices directly inside it did, in their order.
    """

    index: int
    block: nn.Module
    maps: Float[Tensor, "1 head tok tok"]
    hidden: Float[Tensor, "1 tok hid"]
    calls: tuple[MatrixCall, ...]

    @property
    def probabilities(self) -> Float[Tensor, "head tok tok"]:
        """The probabilities in single precision or better; row: the position that looks, column: what it looks at."""
        return self.maps[0] if self.maps.dtype == torch.float64 else self.maps[0].float()


Visit = Callable[[AttentionLayer], None]


@dataclass(slots=True)
class _Frame:
    """A module that is running."""

    module: nn.Module
    first: Tensor | None
    calls: list[MatrixCall] = field(default_factory=list)


class Watch:
    """Shows the attention of each layer to `visit` and drops it, unless the visitor keeps a part of it.

    Attributes:
        rewritten: class of a module that changes what attention adds to the residual stream before it is added (a norm
            behind attention), None when there is none.
    """

    def __init__(self, length: int, visit: Visit) -> None:
        self.count = 0
        self.rewritten: str | None = None
        self._length = length
        self._visit = visit
        self._frames: list[_Frame] = []
        self._branch: Tensor | None = None
        self._last: Callable[[], Tensor | None] = lambda: None

    def enter(self, module: nn.Module, arguments: Any, keywords: Any) -> None:
        """Hook before a module runs."""
        first = next((value for value in (*arguments, *keywords.values()) if isinstance(value, Tensor)), None)
        if first is not None and first is self._branch and not isinstance(module, nn.Dropout):
            self.rewritten = type(module).__name__
        self._frames.append(_Frame(module, first))

    def leave(self, module: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
        """Hook behind it."""
        frame = self._frames.pop()
        outside = self._frames[-1] if self._frames else None
        weight = getattr(module, "weight", None)
        if outside and isinstance(weight, Tensor) and weight.ndim == 2 and isinstance(output, Tensor):
            outside.calls.append(MatrixCall(module, arguments[0], output))
        found = probabilities(output, self._length)
        # a module may hand on what a module inside it gave
        if found is None or found is self._last() or not outside or outside.first is None:
            return
        self._last, self._branch = weakref.ref(found), output[0]
        self._visit(AttentionLayer(self.count, outside.module, found, outside.first, tuple(frame.calls)))
        self.count += 1


@contextmanager
def watching(model: PreTrainedModel, length: int, visit: Visit) -> Iterator[Watch]:
    """Watch the one forward pass that is made inside; attention is eager there, and as it was after.

    Raises:
        WorkbenchError: not every layer showed its probabilities, or a memory limit leaves no room for them.
    """
    check_maps(model, length)
    watch, layers = Watch(length, visit), model.config.get_text_config().num_hidden_layers
    handles = []
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(watch.enter, with_kwargs=True))
            handles.append(module.register_forward_hook(watch.leave, with_kwargs=True))
        with eager_attention(model):
            yield watch
    finally:
        for handle in handles:
            handle.remove()
    if watch.count != layers:
        raise WorkbenchError(
            f"{type(model).__name__} shows the attention of {watch.count} of its {layers} layers; attention methods"
            " need all"
        )


def watch_attention(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], visit: Visit
) -> tuple[Watch, Float[Tensor, "1 *read vocab"]]:
    """Run a prompt without gradients and show each layer's attention to `visit`, in order.

    Returns:
        What was noticed on the way, and what `Adapter.read_logits` gives.

    Raises:
        WorkbenchError: not every layer showed its probabilities, or a memory limit leaves no room for them.
    """
    with adapter.steady(), torch.no_grad(), watching(adapter.model, ids.shape[1], visit) as watch:
        logits = adapter.read_logits(adapter.embed(ids))
    return watch, logits
