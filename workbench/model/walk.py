"""A walk through a model block by block: the inputs of one block at a time, of the full and of the quantized model.

The calibration windows enter as embeddings and are carried from block to block, so that memory holds the hidden states
in front of one block and nothing of the others. Two streams are carried: `full`, what the full model computes, and
`quantized`, what reaches the block when the blocks before it are quantized. They are one and the same until the first
block has been quantized. Nothing of the model is changed at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.errors import WorkbenchError, shown
from workbench.model.accumulate import Accumulator, sum_bytes
from workbench.model.blocks import Block, Call, find_blocks
from workbench.model.load import LoadedModel
from workbench.model.matrices import input_of
from workbench.model.memory import require_memory
from workbench.model.sites import SiteStatistics, check_needs
from workbench.model.sweep import sample_positions
from workbench.model.texts import Windows
from workbench.progress import Progress, Steps

Stream = Literal["full", "quantized"]
BATCH_TOKENS = 2048


class _Arrived(Exception):
    """The hidden states have reached the first block: what comes after it need not run."""


class BlockWalk:
    """Hidden states of all windows in front of a block.

    Args:
        loaded: the model.
        windows: the calibration windows.

    Attributes:
        blocks: the model's blocks in order.
        place: which of them the hidden states stand before.

    Raises:
        WorkbenchError: the model has no blocks, or the hidden states do not fit in memory.
    """

    def __init__(self, loaded: LoadedModel, windows: Windows) -> None:
        self.model, self.windows = loaded.model, windows
        self.blocks = find_blocks(loaded.model)
        if not self.blocks:
            raise WorkbenchError(f"model {shown(loaded.identity.id)} has no blocks of layers to walk through")
        width = int(self.model.config.get_text_config().hidden_size)
        require_memory(2 * 4 * windows.tokens * width, f"walking through {windows.tokens} tokens block by block")
        self.batches = list(windows.ids.split(max(1, BATCH_TOKENS // windows.window)))
        self.place = 0
        self._streams: dict[str, list[Tensor]] = {}
        self._calls: dict[tuple[str, int], Call] = {}
        self._seen: dict[str, Tensor] = {}
        self._positions = sample_positions(windows.ids)[0]

    def open(self) -> Steps[None]:
        """Run the embeddings, and learn from one forward how each block is called."""
        for size in dict.fromkeys(len(ids) for ids in self.batches):
            self._learn_calls(next(ids for ids in self.batches if len(ids) == size))
        hidden = []
        for done, ids in enumerate(self.batches):
            yield Progress(done, len(self.batches), "embedding the calibration windows")
            hidden.append(self._embed(ids))
        self._streams = {"full": hidden, "quantized": hidden}

    def stream(self, name: Stream) -> list[Float[Tensor, "window tok hid"]]:
        """The hidden states in front of the block, batch by batch; not to be written to."""
        return self._streams[name]

    @property
    def apart(self) -> bool:
        """Whether the two streams differ by now."""
        return self._streams["full"] is not self._streams["quantized"]

    def call(self, block: Block, batch: int) -> Call:
        """What a block is called with beside the hidden states of a batch."""
        return self._calls[block.path, len(self.batches[batch])]

    @torch.no_grad()
    def statistics(
        self, block: Block, site: str, needs: Collection[str], *, stream: Stream, weights: Mapping[str, Tensor]
    ) -> Steps[SiteStatistics]:
        """Statistics of the inputs of one site of the block.

        Args:
            block: the block that the walk stands before.
            site: path of the site's module.
            needs: names from `sites.LEVELS`.
            stream: which hidden states the block is given.
            weights: matrices of the block that are quantized already, dense.
        """
        wanted, module = check_needs(needs), self.model.get_submodule(site)
        columns = next(matrix.columns for matrix in block.matrices if matrix.site == site)
        require_memory(sum_bytes([columns], wanted), f"the statistics of {shown(site)}")
        sums = Accumulator(columns, wanted, self._positions, self.model.device)
        start = 0
        for batch, hidden in enumerate(self.stream(stream)):
            yield Progress(batch, len(self.batches), f"inputs of {site}")
            tokens = hidden.shape[0] * hidden.shape[1]

            def add(arguments: tuple[Any, ...], keywords: dict[str, Any], start=start, tokens=tokens) -> None:
                sums.add(input_of(arguments, keywords), start, tokens)

            self._watch(block, batch, hidden, module, add, weights)
            start += tokens
        return sums.finish()

    @torch.no_grad()
    def advance(self, weights: Mapping[str, Tensor]) -> Steps[None]:
        """Go on to the next block.

        Args:
            weights: the dense quantized weights of this block's matrices; those left out stay as they are.

        Raises:
            WorkbenchError: the next block is not given what this one returns.
        """
        block = self.blocks[self.place]
        apart = self.apart or bool(weights)
        streams: dict[str, list[Tensor]] = {"full": [], "quantized": []}
        for batch, hidden in enumerate(self.stream("full")):
            yield Progress(batch, len(self.batches), f"running {block.path}")
            call = self.call(block, batch)
            streams["full"].append(block.run(call, hidden, {}))
            if apart:
                streams["quantized"].append(block.run(call, self.stream("quantized")[batch], weights))
        self.place += 1
        self._streams = streams if apart else dict.fromkeys(streams, streams["full"])
        if self.place < len(self.blocks):
            self._check_chain(self.blocks[self.place])

    def _watch(
        self,
        block: Block,
        batch: int,
        hidden: Tensor,
        module: nn.Module,
        take: Callable[[tuple[Any, ...], dict[str, Any]], None],
        weights: Mapping[str, Tensor],
    ) -> None:
        """Run the block and hand over what one of its modules is called with."""
        hook = module.register_forward_pre_hook(lambda _, a, k: take(a, k), with_kwargs=True)
        try:
            block.run(self.call(block, batch), hidden, weights)
        finally:
            hook.remove()

    @torch.no_grad()
    def _learn_calls(self, ids: Tensor) -> None:
        def note(block: Block) -> Callable[..., None]:
            def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
                hidden, call = Call.split(arguments, keywords)
                self._calls[block.path, len(ids)] = call
                self._seen.setdefault(block.path, hidden[0].clone())

            return hook

        hooks = [block.module.register_forward_pre_hook(note(block), with_kwargs=True) for block in self.blocks]
        try:
            self.model.base_model(input_ids=ids.to(self.model.device), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def _embed(self, ids: Tensor) -> Tensor:
        found: list[Tensor] = []

        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            found.append(Call.split(arguments, keywords)[0])
            raise _Arrived

        handle = self.blocks[0].module.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            self.model.base_model(input_ids=ids.to(self.model.device), use_cache=False)
        except _Arrived:
            pass
        finally:
            handle.remove()
        return found[0]

    def _check_chain(self, block: Block) -> None:
        expected, here = self._seen[block.path], self.stream("full")[0][0]
        scale = float(expected.abs().max()) or 1.0
        if expected.shape != here.shape or float((expected - here).abs().max()) > 1e-3 * scale:
            raise WorkbenchError(
                f"the blocks of this model do not follow one another directly: {shown(block.path)} is given something "
                "else than the block before it returns, so methods that walk block by block cannot be used"
            )
