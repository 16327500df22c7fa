"""A walk through a model block by block: the inputs of one block at a time, of the full and of the quantized model.

The calibration windows enter as embeddings and are carried from block to block, so that memory holds the hidden states
in front of one block and nothing of the others. Two streams are carried: `full`, what the full model computes, and
`quantized`, what reaches the block when the blocks before it are quantized. They are one and the same until the first
block has been quantized. Nothing of the model is changed at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.errors import shown
from workbench.model.accumulate import Accumulator, sum_bytes
from workbench.model.blocks import Block
from workbench.model.hidden_file import HiddenFile
from workbench.model.load import LoadedModel
from workbench.model.matrices import input_of, quantizable_matrices
from workbench.model.passage import Passage
from workbench.model.sites import SiteStatistics, check_needs
from workbench.model.sweep import sample_positions
from workbench.model.texts import Windows
from workbench.model.work_room import room_for, windows_that_pass
from workbench.progress import Progress, Steps

Stream = Literal["full", "quantized"]
BATCH_TOKENS = 2048


class BlockWalk(Passage):
    """A passage of two streams.

    Args:
        loaded: the model.
        windows: the calibration windows.

    Raises:
        WorkbenchError: the model has no blocks, or the hidden states do not fit in memory or on disk.
    """

    def __init__(self, loaded: LoadedModel, windows: Windows) -> None:
        sums = sum_bytes([max(one.columns for one in quantizable_matrices(loaded.model))], {"gram"})
        at_once = windows_that_pass(loaded.model, windows.window, BATCH_TOKENS // windows.window, sums)
        super().__init__(loaded.model, windows.ids, at_once, loaded.identity.id)
        self.windows = windows
        self._quantized: Any = None
        self._positions = sample_positions(windows.ids)[0]

    def stream(self, name: Stream) -> Sequence[Float[Tensor, "window tok hid"]]:
        """The hidden states in front of the block, batch by batch; not to be written to."""
        return self.states if name == "full" or not self.apart else self._quantized

    @property
    def apart(self) -> bool:
        """Whether the two streams differ by now."""
        return self._quantized is not None

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
        wanted = check_needs(needs)
        columns = next(matrix.columns for matrix in block.matrices if matrix.site == site)
        with room_for(self.model, sum_bytes([columns], wanted), f"the statistics of {shown(site)}"):
            return (yield from self._statistics(block, site, columns, wanted, stream, weights))

    @torch.no_grad()
    def _statistics(
        self,
        block: Block,
        site: str,
        columns: int,
        wanted: Collection[str],
        stream: Stream,
        weights: Mapping[str, Tensor],
    ) -> Steps[SiteStatistics]:
        sums = Accumulator(columns, wanted, self._positions, self.model.device)
        start, module = 0, self.model.get_submodule(site)
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
        block, full = self.blocks[self.place], self.states
        other = self._quantized
        if other is None and weights:
            other = full.like() if isinstance(full, HiddenFile) else list(full)
        for batch, hidden in enumerate(full):
            yield Progress(batch, len(self.batches), f"running {block.path}")
            call = self.call(block, batch)
            if other is not None:
                other[batch] = block.run(call, self.stream("quantized")[batch], weights)
            full[batch] = block.run(call, hidden, {})
        self._quantized = other
        self.step()

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
