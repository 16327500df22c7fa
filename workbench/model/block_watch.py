"""What passes inside a block while it runs: the call of one module, and which modules ran before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError, shown
from workbench.model.block_task import BlockTask
from workbench.model.blocks import Call


class Seen(Exception):
    """Raised by a hook when what it looked for has passed: the rest of the block need not run."""


@dataclass(frozen=True, eq=False)
class Before:
    """A module that ran in front of another one.

    Attributes:
        path: its path in the model.
        feeds: whether what it returned is what the other one was given.
    """

    path: str
    feeds: bool


def batches_holding(task: BlockTask, tokens: int) -> int:
    """How many batches, from the first on, hold at least so many tokens; all of them when there are fewer."""
    held = 0
    for batch, hidden in enumerate(task.inputs()):
        held += hidden.shape[0] * hidden.shape[1]
        if held >= tokens:
            return batch + 1
    return len(task.inputs())


def call_of(task: BlockTask, batch: int, path: str) -> tuple[Tensor, Call]:
    """What a module is called with in a batch of the full model's stream: its first tensor and the rest of it.

    Raises:
        WorkbenchError: the module is not called, as an expert may not be in a mixture of them.
    """
    found: list[tuple[Tensor, Call]] = []

    def take(first: Tensor, call: Call) -> None:
        found.append((first, call))
        raise Seen

    run_watched(task, batch, path, take, task.weights, {})
    if not found:
        raise WorkbenchError(f"module {shown(path)} is not called when its block runs on the calibration text")
    return found[0]


def modules_before(task: BlockTask, batch: int, path: str) -> list[Before]:
    """Modules of the block that have weights and ran before one of them, in the order in which they ran."""
    outputs: list[tuple[str, Any]] = []  # held until the end, so that no memory is used twice

    def note(inner: str) -> Callable[..., None]:
        return lambda module, inputs, output: outputs.append((f"{task.block.path}.{inner}", output))

    weighted = [(name, one) for name, one in task.block.module.named_modules() if list(one.parameters(recurse=False))]
    handles = [one.register_forward_hook(note(name)) for name, one in weighted if name]
    try:
        first, _ = call_of(task, batch, path)
    finally:
        for handle in handles:
            handle.remove()
    return [Before(name, isinstance(one, Tensor) and one.data_ptr() == first.data_ptr()) for name, one in outputs]


@torch.no_grad()
def run_watched(
    task: BlockTask,
    batch: int,
    path: str,
    take: Callable[[Tensor, Call], None],
    weights: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
) -> Tensor | None:
    """Run the block on a batch and hand over what one of its modules is called with; None when `take` raised `Seen`."""

    def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        take(*Call.split(arguments, keywords))

    block = task.block
    module = block.module if path == block.path else block.module.get_submodule(block.inner(path))
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        return task.run(batch, task.inputs()[batch], weights, others)
    except Seen:
        return None
    finally:
        handle.remove()
