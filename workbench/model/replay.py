"""A forward that is taken up again in the middle: what a changed matrix does not reach is replayed, not computed.

When one matrix is changed, whatever the model computed before it came to that matrix is the same as before: the blocks
in front, and inside the block what `noted.Notes` tells. `Resumable` notes the outputs in one forward of the unchanged
model, and later forwards are given them in place of a computation. No module is known by name, so that nothing depends
on the family of the model; what lies between the modules runs as it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from workbench.model.blocks import Block
from workbench.model.matrices import Matrix
from workbench.model.noted import Forward, Notes, Ran, giver


class _Passed(Exception):
    """The block has run: what comes behind it is not wanted."""


class Resumable:
    """One batch of windows on its way through a model.

    Args:
        model: the model; only what a caller lays over it for a while may differ from call to call.
        blocks: its blocks in order.
        ids: the windows.
    """

    def __init__(self, model: Any, blocks: Sequence[Block], ids: Int64[Tensor, "window tok"]) -> None:
        self._model, self._blocks, self._ids = model, list(blocks), ids.to(model.device)
        self._modules: dict[str, nn.Module] = dict(model.named_modules())
        self._front: tuple[int, Any] | None = None  # the place of the block in front, and its output
        self._behind: tuple[int, Ran] | None = None  # the same of the block that it stands before
        self._notes: Notes | None = None
        self._ready: dict[str, dict[nn.Module, Forward]] = {}

    def stand_before(self, block: Block | None) -> Float[Tensor, "window tok vocab"]:
        """Run the model to its end and note what is needed to go on from inside a block; None for outside of them.

        Call it block by block from the front, under the same weights each time; blocks may be left out.

        Returns:
            Logits of the unchanged model, which are those of a whole forward if the blocks follow one another directly.
        """
        with self._standing(block):
            return self._forward()

    def step_before(self, block: Block) -> None:
        """As `stand_before`, but what comes behind the block is not run."""

        def stop(*_: Any) -> None:
            raise _Passed

        with self._standing(block):
            handle = block.module.register_forward_hook(stop)  # behind the one that takes notes
            try:
                self._forward()
            except _Passed:
                pass
            finally:
                handle.remove()

    def run(self, matrix: Matrix) -> Float[Tensor, "window tok vocab"]:
        """Logits with whatever the matrix is now; what it does not reach is replayed."""
        if matrix.module not in self._ready:
            inside = {} if self._notes is None else self._notes.stand_ins(matrix.module)
            own = {self._modules[path]: forward for path, forward in inside.items()}
            self._ready[matrix.module] = self._blocks_in_front() | own
        with self._replaying(self._ready[matrix.module]):
            return self._forward()

    def leave(self) -> None:
        """Drop what only this block needed; the next one can be stood before."""
        self._notes, self._ready = None, {}

    def forget(self) -> None:
        """Replay nothing from now on, until it stands before another block: the model is run as a whole."""
        self._front = self._behind = None
        self.leave()

    @torch.no_grad()
    def _forward(self) -> Tensor:
        return self._model(input_ids=self._ids, use_cache=False).logits.float()

    def _blocks_in_front(self) -> dict[nn.Module, Forward]:
        place, output = self._front or (-1, None)
        # those in front of the last one are given its output too, for the sake of its form; nobody reads it
        return {block.module: giver(output) for block in self._blocks[: place + 1]}

    @contextmanager
    def _standing(self, block: Block | None) -> Iterator[None]:
        """Take notes of the block, of what lies in no block, and of the block in front, in one forward."""
        self.leave()
        if block is None:
            self._front = self._behind = None
            yield
            return
        place = self._blocks.index(block)
        self._step_on(place)
        others = [one.path for one in self._blocks if one is not block]
        watched = {path: one for path, one in self._modules.items() if path and not _is_in_any(path, others)}
        if place:
            watched[self._blocks[place - 1].path] = self._blocks[place - 1].module
        notes = Notes(watched)
        with notes.taking(), self._replaying(self._blocks_in_front()):
            yield
        self._take_over(notes, place)

    def _step_on(self, place: int) -> None:
        """Keep the output of the last block in front that has run."""
        if self._behind is not None and self._behind[0] < place:
            self._front = (self._behind[0], self._behind[1].output) if self._behind[1].can_replay else None
        if self._front is not None and self._front[0] >= place:
            self._front = None
        self._behind = None

    def _take_over(self, notes: Notes, place: int) -> None:
        before = notes.of(self._blocks[place - 1].path) if place else None
        if place:
            self._front = None if before is None or not before.can_replay else (place - 1, before.output)
        own = notes.of(self._blocks[place].path)
        self._behind = None if own is None else (place, Ran(0, 0, own.times, None, 0, own.output, own.version))
        notes.keep(self._blocks[place])
        self._notes = notes

    @contextmanager
    def _replaying(self, forwards: Mapping[nn.Module, Forward]) -> Iterator[None]:
        """Let functions stand for the forwards of modules."""
        former = {module: vars(module).get("forward") for module in forwards}
        try:
            for module, forward in forwards.items():
                vars(module)["forward"] = forward
            yield
        finally:
            for module, own in former.items():
                vars(module).pop("forward", None) if own is None else vars(module).update(forward=own)


def _is_in_any(path: str, others: Sequence[str]) -> bool:
    return any(path == other or path.startswith(f"{other}.") for other in others)
