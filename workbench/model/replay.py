"""A forward that is taken up again in the middle: what ran before the changed matrix is replayed, not computed.

When one matrix is changed, whatever the model computed before it came to that matrix is the same as before: the blocks
in front, and inside the block every module that had ended when the matrix's own module began. `Resumable` notes the
outputs in one forward of the unchanged model, and later forwards are given them in place of a computation. No module is
known by name, so that nothing depends on the family of the model; what lies between the modules runs as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from workbench.model.blocks import Block
from workbench.model.matrices import Matrix


@dataclass(eq=False)
class _Ran:
    """How a module ran in the noted forward: when it began and ended, how often, and what it returned."""

    begun: int
    ended: int = -1
    times: int = 0
    output: Any = None
    version: int = 0


class Resumable:
    """One batch of windows on its way through a model.

    Args:
        model: the model; only what a caller lays over it for a while may differ from call to call.
        blocks: its blocks in order.
        ids: the windows.
    """

    def __init__(self, model: Any, blocks: Sequence[Block], ids: Int64[Tensor, "window tok"]) -> None:
        self._model, self._blocks, self._ids = model, list(blocks), ids.to(model.device)
        self._front: tuple[int, Any] | None = None  # a block's place and its output
        self._ran: dict[str, _Ran] = {}
        self._block: int | None = None

    def stand_before(self, block: Block | None) -> Float[Tensor, "window tok vocab"]:
        """Run the model to its end and note what is needed to go on from inside a block; None for outside of them.

        Call it block by block from the front, under the same weights each time; blocks may be left out.

        Returns:
            Logits of the unchanged model, which are those of a whole forward if the blocks follow one another directly.
        """
        self._block = None if block is None else self._blocks.index(block)
        self._ran = {}
        with self._noting(self._block), self._replaying({}):
            logits = self._forward()
        if self._block:
            before = self._ran.pop(self._blocks[self._block - 1].path)
            self._front = (self._block - 1, before.output) if _is_untouched(before) else None
        last = max((self._ran[m.module].begun for m in block.matrices), default=-1) if block is not None else -1
        self._ran = {path: one for path, one in self._ran.items() if one.ended < last or one.begun <= last}
        for one in self._ran.values():
            one.output = one.output if one.ended < last else None
        return logits

    def run(self, matrix: Matrix) -> Float[Tensor, "window tok vocab"]:
        """Logits with whatever the matrix is now; everything before it is replayed."""
        return self._forward_from(matrix) if self._block is not None else self._forward()

    def forget(self) -> None:
        """Replay nothing from now on: the model is run as a whole."""
        self._front, self._ran, self._block = None, {}, None

    def _forward_from(self, matrix: Matrix) -> Tensor:
        own = self._ran.get(matrix.module)
        begun = -1 if own is None else own.begun  # an expert that these tokens do not reach begins never
        known = {path: one.output for path, one in self._ran.items() if one.ended < begun and _can_replay(one)}
        with self._replaying(known):
            return self._forward()

    @torch.no_grad()
    def _forward(self) -> Tensor:
        return self._model(input_ids=self._ids, use_cache=False).logits.float()

    @contextmanager
    def _replaying(self, known: Mapping[str, Any]) -> Iterator[None]:
        """Blocks up to the front and the modules in `known` return what they returned before."""
        place, output = self._front or (-1, None)
        # those in front of the last one are given its output too, for the sake of its form; nobody reads it
        held = {self._blocks[one].path: output for one in range(place + 1)} | dict(known)
        modules = [self._model.get_submodule(path) for path in held]
        own = [vars(module).get("forward") for module in modules]
        try:
            for module, given in zip(modules, held.values(), strict=True):
                vars(module)["forward"] = _giver(given)
            yield
        finally:
            for module, former in zip(modules, own, strict=True):
                vars(module).pop("forward") if former is None else vars(module).update(forward=former)

    @contextmanager
    def _noting(self, place: int | None) -> Iterator[None]:
        """Hooks on the block, on what lies in no block, and on the block in front."""
        paths = [block.path for block in self._blocks]
        own = None if place is None else paths[place]
        watched = {
            path: module
            for path, module in self._model.named_modules()
            if path and all(not _is_within(path, other) for other in paths if other != own)
        }
        if place:
            watched[paths[place - 1]] = self._blocks[place - 1].module
        clock = iter(range(1 << 62))
        handles = []
        for path, module in watched.items():
            handles.append(module.register_forward_pre_hook(self._beginner(path, clock)))
            handles.append(module.register_forward_hook(self._ender(path, clock)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _beginner(self, path: str, clock: Iterator[int]) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            one = self._ran.setdefault(path, _Ran(next(clock)))
            one.times += 1

        return hook

    def _ender(self, path: str, clock: Iterator[int]) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            one = self._ran[path]
            one.ended, one.output, one.version = next(clock), output, _version(output)

        return hook


def _giver(output: Any) -> Callable[..., Any]:
    return lambda *arguments, **keywords: output


def _is_within(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.")


def _can_replay(one: _Ran) -> bool:
    return one.times == 1 and _is_untouched(one)


def _is_untouched(one: _Ran) -> bool:
    """Whether nobody wrote into the output after it was returned; it would not be what the module returns."""
    return one.version == _version(one.output)


def _version(output: Any) -> int:
    tensors = [output] if isinstance(output, Tensor) else output if isinstance(output, tuple) else []
    return sum(one._version for one in tensors if isinstance(one, Tensor))
