"""What a model loses when one matrix is changed, for many changes: only what comes behind the matrix is computed.

Per window and in nats a token, so that differences are paired and more windows can be added later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from workbench.measures.divergence import DivergenceFrom
from workbench.measures.perplexity import losses_of_logits, window_logits
from workbench.model.blocks import Block, find_blocks
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.overlay import overlay
from workbench.model.replay import Resumable
from workbench.progress import Progress, Steps

BATCH_LOGITS = 8_000_000
BATCH_OPERATIONS = 8e9
WINDOWS_AT_ONCE = 8
AGREES = 1e-4
"""Nats by which the loss of a resumed forward may differ from a whole one's before resuming is given up."""

Dense = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Change:
    """One matrix under another weight.

    Attributes:
        key: what the caller knows it by.
        matrix: the matrix.
        weight: makes the dense weight `[out, in]`, when its block is reached.
        note: words for the progress.
    """

    key: str
    matrix: Matrix
    weight: Callable[[], Tensor]
    note: str


@dataclass(frozen=True, eq=False)
class Effect:
    """What a change did on a batch of windows, beside the model that was changed: means over tokens, nats.

    Attributes:
        loss: loss with the change minus loss without, by window.
        kl: KL(full || with the change) minus KL(full || without), by window; None where it was not asked for.
    """

    loss: Float64[Tensor, " window"]
    kl: Float64[Tensor, " window"] | None = None


Take = Callable[[Change, Effect], None]
"""Is called with each change once for every batch of windows, the batches in order."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What changes are measured on.

    Attributes:
        loaded: the model.
        ids: the windows.
        base: dense weights that are in place all the while, beneath the changes.
        divergence: whether to take KL too, which costs about as much as what it is beside.
        at_once: windows of a batch, fewer where they would take long or much memory.
    """

    loaded: LoadedModel
    ids: Int64[Tensor, "window tok"]
    base: Dense = field(default_factory=dict)
    divergence: bool = False
    at_once: int = WINDOWS_AT_ONCE

    def batches(self) -> Sequence[Int64[Tensor, "batch tok"]]:
        """The windows, batch by batch."""
        return self.ids.split(windows_at_once(self.loaded, self.ids.shape[1], self.at_once))


def spread_order(count: int) -> list[int]:
    """0 to `count` - 1 by reversed binary digits (van der Corput): any first ones are spread evenly."""
    digits = max(1, (count - 1).bit_length())
    return [place for place in (int(f"{one:0{digits}b}"[::-1], 2) for one in range(1 << digits)) if place < count]


def single_changes(ground: Ground, changes: Iterable[Change], take: Take) -> Steps[None]:
    """Measure every change alone, block by block; the model's own bytes are back at every yield.

    Args:
        ground: what they are measured on.
        changes: what is changed; none of them is in place while another one is measured.
        take: what to do with their effects.
    """
    blocks = find_blocks(ground.loaded.model)
    groups = _by_block(blocks, changes)
    batches = [_Batch(ground, blocks, part) for part in ground.batches()]
    total, done = sum(map(len, groups.values())) * len(batches), 0
    for block, group in groups.items():
        weights = {change.key: change.weight() for change in group}
        resumes = True
        for batch in batches:
            yield Progress(done, total, group[0].note)
            # a model that cannot be resumed here shows it on any text: the first batch is looked at
            resumes = batch.stand_before(block, look=batch is batches[0], resumes=resumes)
            for change in group:
                yield Progress(done, total, change.note)
                take(change, batch.effect(change.matrix, weights[change.key]))
                done += 1
            batch.leave()


def windows_at_once(loaded: LoadedModel, window: int, most: int) -> int:
    """Windows of a batch: a fraction of a second of work, and logits of at most 32 MB; from sizes alone."""
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    a_token = 2 * sum(parameter.numel() for parameter in loaded.model.parameters())
    tokens = min(BATCH_LOGITS / vocabulary, BATCH_OPERATIONS / a_token)
    return max(1, min(most, int(tokens // window)))


def _by_block(blocks: Sequence[Block], changes: Iterable[Change]) -> dict[Block | None, list[Change]]:
    """The changes of every block, in the order of the blocks; those outside of blocks first."""
    home = {matrix.name: place for place, block in enumerate(blocks) for matrix in block.matrices}
    groups: dict[int, list[Change]] = {}
    for change in changes:
        groups.setdefault(home.get(change.matrix.name, -1), []).append(change)
    return {blocks[place] if place >= 0 else None: groups[place] for place in sorted(groups)}


class _Batch:
    """Some windows, and where the model stands with them."""

    def __init__(self, ground: Ground, blocks: Sequence[Block], ids: Tensor) -> None:
        self._model, self._ids, self._base, self._takes_kl = ground.loaded.model, ids, ground.base, ground.divergence
        self._walk = Resumable(self._model, blocks, ids)
        self._losses: Tensor | None = None  # without a change
        self._from: DivergenceFrom | None = None
        self._kl: Tensor | None = None

    def stand_before(self, block: Block | None, *, look: bool, resumes: bool) -> bool:
        """Note the base model up to inside the block, or run the whole from then on; returns whether it resumes.

        Args:
            block: the block; None for outside of them.
            look: whether to run to the end, and give resuming up where that gives another loss.
            resumes: whether others found that it can be resumed.
        """
        with overlay(self._model, self._base):
            if resumes and not (look or self._takes_kl or self._losses is None or block is None):
                self._walk.step_before(block)
                return True
            logits = self._walk.stand_before(block) if resumes else None
            if logits is None or not self._is_as_before(logits):
                self._walk.forget()
                resumes, logits = False, window_logits(self._model, self._ids)
        if self._takes_kl:
            full = window_logits(self._model, self._ids) if self._base else logits
            self._from = DivergenceFrom(full[:, :-1])
            self._kl = self._divergence(logits)
        return resumes

    def effect(self, matrix: Matrix, weight: Float[Tensor, "out in"]) -> Effect:
        """What the change of one matrix does."""
        assert self._losses is not None
        with overlay(self._model, {**self._base, matrix.name: weight}):
            logits = self._walk.run(matrix)
        loss = self._means(logits) - self._losses
        return Effect(loss, None if self._kl is None else self._divergence(logits) - self._kl)

    def leave(self) -> None:
        """Drop what only this block needed."""
        self._from = None
        self._walk.leave()

    def _is_as_before(self, logits: Tensor) -> bool:
        """Whether the losses are those of the first time."""
        losses = self._means(logits)
        self._losses = losses if self._losses is None else self._losses
        return torch.allclose(losses, self._losses, rtol=0, atol=AGREES, equal_nan=True)

    def _means(self, logits: Tensor) -> Tensor:
        return losses_of_logits(logits, self._ids).double().mean(1).cpu()

    def _divergence(self, logits: Tensor) -> Tensor:
        assert self._from is not None
        return self._from.to(logits[:, :-1]).mean(1).cpu()
