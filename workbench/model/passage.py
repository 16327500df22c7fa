"""Windows of text on their way through the blocks of a model: all of them pass one block before any enters the next.

Memory holds the hidden states in front of one block, and a model that reads its blocks when they run is read once for
all windows. Hidden states of such a model lie on disk.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from workbench.errors import WorkbenchError, shown
from workbench.model.blocks import Block, Call, find_blocks
from workbench.model.calls import Calls, in_place_of, learn_calls
from workbench.model.hidden_file import HiddenFile
from workbench.model.memory import require_memory
from workbench.model.streaming import is_streamed
from workbench.progress import Progress, Steps


class Arrived(Exception):
    """The hidden states have reached the first block: what comes after it need not run."""


class Passage:
    """Hidden states of all windows in front of a block.

    Args:
        model: the model; nothing of it is changed at any moment.
        ids: the windows.
        windows_at_once: windows of a batch.
        called: name of the model, for messages.

    Attributes:
        blocks: the model's blocks in order.
        batches: the windows, batch by batch.
        place: which block the hidden states stand before.

    Raises:
        WorkbenchError: the model has no blocks, or the hidden states do not fit in memory.
    """

    def __init__(self, model: Any, ids: Int64[Tensor, "window tok"], windows_at_once: int, called: str = "") -> None:
        self.model = model
        self.blocks = find_blocks(model)
        if not self.blocks:
            raise WorkbenchError(f"model {shown(called)} has no blocks of layers to walk through")
        width = int(model.config.get_text_config().hidden_size)
        if not is_streamed(model):
            require_memory(2 * 4 * ids.numel() * width, f"walking through {ids.numel()} tokens block by block")
        self.batches = list(ids.split(max(1, windows_at_once)))
        self.place = 0
        self.states: list[Tensor] | HiddenFile = []
        self._calls: dict[int, Calls] = {}

    def open(self) -> Steps[None]:
        """Run the embeddings, and learn from one forward how each block is called."""
        for size in dict.fromkeys(len(ids) for ids in self.batches):
            yield Progress(0, len(self.batches), "how the blocks are called")
            self._calls[size] = learn_calls(self.model, self.blocks, next(i for i in self.batches if len(i) == size))
        first = self._calls[len(self.batches[0])].first
        states = self._room_for(first)
        for done, ids in enumerate(self.batches):
            yield Progress(done, len(self.batches), "embedding the windows")
            states[done] = self._embed(ids)
        self.states = states

    @property
    def direct(self) -> bool:
        """Whether every block is given what the block before it returns."""
        return not any(calls.apart for calls in self._calls.values())

    def call(self, block: Block, batch: int) -> Call:
        """What a block is called with beside the hidden states of a batch."""
        return self._calls[len(self.batches[batch])].of[block.path]

    @torch.no_grad()
    def carry(self, weights: Mapping[str, Tensor], before: Callable[[int], None] | None = None) -> Steps[None]:
        """Let all windows pass the block.

        Args:
            weights: dense weights `[out, in]` in place of some of its own.
            before: called with the number of a batch before it runs.

        Raises:
            WorkbenchError: the next block is not given what this one returns.
        """
        block, states = self.blocks[self.place], self.states
        for batch, hidden in enumerate(states):
            yield Progress(batch, len(self.batches), f"running {block.path}")
            if before is not None:
                before(batch)
            states[batch] = block.run(self.call(block, batch), hidden, weights)
        self.step()

    def step(self) -> None:
        """Stand before the next block.

        Raises:
            WorkbenchError: it is not given what this one returns.
        """
        self.place += 1
        path = self.blocks[self.place].path if self.place < len(self.blocks) else ""
        if any(path in calls.apart for calls in self._calls.values()):
            raise WorkbenchError(
                f"the blocks of this model do not follow one another directly: {shown(path)} is given something "
                "else than the block before it returns, so methods that walk block by block cannot be used"
            )

    @torch.no_grad()
    def logits(
        self, batch: int, states: Float[Tensor, "window tok hid"], kept: Int64[Tensor, " some"] | None = None
    ) -> Float[Tensor, "window some vocab"]:
        """What the rest of the model makes of the hidden states behind its last block, float32.

        Args:
            batch: which batch they are of.
            states: hidden states behind the last block.
            kept: places in the windows; None for all. A model that cannot leave any out computes all.
        """
        ids = self.batches[batch]
        last = self._calls[len(ids)].form(states)
        with in_place_of(dict.fromkeys(self.blocks, lambda *arguments, **keywords: last)):
            some = {} if kept is None or not takes_places(self.model) else {"logits_to_keep": kept}
            logits = self.model(input_ids=ids.to(self.model.device), use_cache=False, **some).logits.float()
        return logits if kept is None or some else logits[:, kept]

    def _room_for(self, first: Tensor) -> Any:
        """Where hidden states are kept, with a place for every batch."""
        if not is_streamed(self.model):
            return [first] * len(self.batches)
        shapes = [torch.Size((len(ids), *first.shape[1:])) for ids in self.batches]
        return HiddenFile(shapes, first.dtype)

    @torch.no_grad()
    def _embed(self, ids: Tensor) -> Tensor:
        found: list[Tensor] = []

        def arrive(*arguments: Any, **keywords: Any) -> None:
            found.append(Call.split(arguments, keywords)[0])
            raise Arrived

        try:
            with in_place_of({self.blocks[0]: arrive}):
                self.model.base_model(input_ids=ids.to(self.model.device), use_cache=False)
        except Arrived:
            pass
        return found[0]


def takes_places(model: Any) -> bool:
    """Whether a model can be told for which tokens to compute logits."""
    return "logits_to_keep" in inspect.signature(type(model).forward).parameters
