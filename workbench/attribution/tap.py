"""Attention probabilities, one layer at a time, from any model of transformers that can compute them eagerly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.errors import WorkbenchError


@contextmanager
def eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """The attention implementation that gives its probabilities (fused ones do not); the former comes back after.

    Raises:
        WorkbenchError: the model has no such implementation.
    """
    parts = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    former = [(part, part.config._attn_implementation) for part in parts]
    try:
        _set_eager(model)
        yield
    finally:
        for part, name in former:
            if name not in (None, part.config._attn_implementation):
                part.set_attn_implementation(name)


def _set_eager(model: PreTrainedModel) -> None:
    try:
        model.set_attn_implementation("eager")
    except (ValueError, ImportError) as error:  # what transformers raises for an implementation that is not there
        raise WorkbenchError(
            f"{type(model).__name__} has no eager attention, which this method reads; choose one that does without,"
            " such as integrated_gradients"
        ) from error


@contextmanager
def tap(model: PreTrainedModel, length: int, visit: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Call `visit(layer, probabilities [head tok tok])` for each layer of the one forward pass that is made inside.

    Each layer is shown and dropped, because all of them together grow as layers x heads x tokens^2. Hooks are used
    instead of `output_attentions`, which keeps them all.

    Args:
        model: in eager attention.
        length: tokens of the prompt.
        visit: called in the order of the layers.

    Raises:
        WorkbenchError: not every layer showed its probabilities (also when the model has layers without attention).
    """
    layers = model.config.get_text_config().num_hidden_layers
    seen: list[Tensor] = []  # the last map: a module may hand on what a module inside it gave
    count = 0

    def look(module: nn.Module, arguments: Any, output: Any) -> None:
        nonlocal count
        found = probabilities(output, length)
        if found is not None and not any(found is held for held in seen):
            seen[:] = [found]
            visit(count, found[0].float())
            count += 1

    handles = [module.register_forward_hook(look) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if count != layers:
        raise WorkbenchError(
            f"{type(model).__name__} shows the attention of {count} of its {layers} layers; attention methods need all"
        )


def probabilities(output: Any, length: int) -> Tensor | None:
    """The attention probabilities [1 head tok tok] in a module's output (hidden state, probabilities, ...), or None."""
    if not isinstance(output, tuple) or len(output) < 2 or not isinstance(output[1], Tensor):
        return None
    shape = output[1].shape
    return output[1] if len(shape) == 4 and shape[0] == 1 and tuple(shape[2:]) == (length, length) else None
