"""How a model calls its blocks, learned from one forward in which no block but the first computes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from workbench.model.blocks import Block, Call


@dataclass(frozen=True, eq=False)
class Calls:
    """What one forward over windows of a size shows.

    Attributes:
        of: path of a block -> what it is called with beside the hidden states.
        first: the hidden states in front of the first block.
        apart: paths of blocks that are given something else than the block before them returns.
        form: puts hidden states into the form in which a block returns them.
    """

    of: Mapping[str, Call]
    first: Tensor
    apart: frozenset[str]
    form: Callable[[Tensor], Any]


@torch.no_grad()
def learn_calls(model: Any, blocks: Sequence[Block], ids: Int64[Tensor, "window tok"]) -> Calls:
    """Run the model with stand-ins for its blocks that return their input plus one, and note what each is given.

    Only the first block computes, because the form of its output is that of all.
    """
    calls: dict[str, Call] = {}
    apart: list[str] = []
    returned: list[Tensor] = []
    forms: list[Any] = []

    def stand_in(block: Block) -> Callable[..., Any]:
        def forward(*arguments: Any, **keywords: Any) -> Any:
            hidden, calls[block.path] = Call.split(arguments, keywords)
            if not forms:
                returned.append(hidden)
                forms.append(own(*arguments, **keywords))
            elif not torch.equal(hidden, returned[-1]):
                apart.append(block.path)
            returned.append(hidden + 1)
            return formed(forms[0], returned[-1])

        return forward

    own = blocks[0].module.forward
    with in_place_of({block: stand_in(block) for block in blocks}):
        model.base_model(input_ids=ids.to(model.device), use_cache=False)
    shape = forms[0]
    return Calls(calls, returned[0], frozenset(apart), lambda hidden: formed(shape, hidden))


def formed(example: Any, hidden: Tensor) -> Any:
    """Hidden states as a block returns them: alone, or at the head of a tuple."""
    return hidden if isinstance(example, Tensor) else (hidden, *example[1:])


@contextmanager
def in_place_of(forwards: Mapping[Block, Callable[..., Any]]) -> Iterator[None]:
    """Let other functions stand for the forwards of blocks; hooks on the blocks run as ever."""
    modules: list[nn.Module] = [block.module for block in forwards]
    own = [vars(module).get("forward") for module in modules]
    try:
        for module, forward in zip(modules, forwards.values(), strict=True):
            vars(module)["forward"] = forward
        yield
    finally:
        for module, former in zip(modules, own, strict=True):
            vars(module).pop("forward") if former is None else vars(module).update(forward=former)
