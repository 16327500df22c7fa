"""What a model loses when one matrix is changed, for many changes: only what comes behind the matrix is computed.

Per window and in nats a token, so that differences are paired and more windows can be added later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

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


def spread_order(count: int) -> list[int]:
    """0 to `count` - 1 by reversed binary digits (van der Corput): any first ones are spread evenly."""
    digits = max(1, (count - 1).bit_length())
    return [place for place in (int(f"{one:0{digits}b}"[::-1], 2) for one in range(1 << digits)) if place < count]


def single_changes(
    loaded: LoadedModel,
    ids: Int64[Tensor, "window tok"],
    changes: Iterable[Change],
    take: Callable[[Change, Effect], None],
    *,
    base: Dense | None = None,
    divergence: bool = False,
    at_once: int = WINDOWS_AT_ONCE,
) -> Steps[None]:
    """Measure every change alone, block by block; the model's own bytes are back at every yield.

    Args:
        loaded: the model.
        ids: the windows.
        changes: what is changed; none of them is in place while another one is measured.
        take: is called with each change once for every batch of windows, the batches in order.
        base: dense weights that are in place all the while, beneath the changes.
        divergence: whether to take KL too, which costs about as much as what it is beside.
        at_once: windows of a batch, fewer where they would take long or much memory.
    """
    base, blocks = base or {}, find_blocks(loaded.model)
    groups = _by_block(blocks, changes)
    size = windows_at_once(loaded, ids.shape[1], at_once)
    batches = [_Batch(loaded, blocks, part, base, divergence) for part in ids.split(size)]
    total, done = sum(map(len, groups.values())) * len(batches), 0
    for block, group in groups.items():
        weights = {change.key: change.weight() for change in group}
        for batch in batches:
            yield Progress(done, total, group[0].note)
            batch.stand_before(block)
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

    def __init__(self, loaded: LoadedModel, blocks: Sequence[Block], ids: Tensor, base: Dense, kl: bool) -> None:
        self._model, self._ids, self._base, self._takes_kl = loaded.model, ids, base, kl
        self._walk = Resumable(loaded.model, blocks, ids)
        self._losses: Tensor | None = None  # without a change
        self._from: DivergenceFrom | None = None
        self._kl: Tensor | None = None

    def stand_before(self, block: Block | None) -> None:
        """Note the base model up to inside the block; where resuming gives another loss, run the whole from then on."""
        with overlay(self._model, self._base):
            logits = self._walk.stand_before(block)
            losses = self._means(logits)
            if self._losses is not None and not torch.allclose(
                losses, self._losses, rtol=0, atol=AGREES, equal_nan=True
            ):
                self._walk.forget()
                logits = window_logits(self._model, self._ids)
                losses = self._means(logits)
        self._losses = losses if self._losses is None else self._losses
        if self._takes_kl:
            full = window_logits(self._model, self._ids) if self._base else logits
            self._from = DivergenceFrom(full[:, :-1])
            self._kl = self._divergence(logits)

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

    def _means(self, logits: Tensor) -> Tensor:
        return losses_of_logits(logits, self._ids).double().mean(1).cpu()

    def _divergence(self, logits: Tensor) -> Tensor:
        assert self._from is not None
        return self._from.to(logits[:, :-1]).mean(1).cpu()
