"""What a model that is read block by block loses when one matrix is changed: many changes on one way through it.

Hidden states of the unchanged model in front of every block lie in a file. A changed matrix's block is run from there,
and from then on all changes go through the blocks behind together, so that a block is read once a pass and not once a
change. What follows the last block is computed for a run of tokens at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from workbench.model.backward import oriented
from workbench.model.chain import Chain
from workbench.model.chain_gradients import embed, forward, pass_block
from workbench.model.hidden_file import HiddenFile
from workbench.model.matrices import Matrix
from workbench.model.path import moves
from workbench.progress import Progress, Steps, within
from workbench.studies.chain_heads import View, read_views
from workbench.studies.single_changes import Change, Effect, Ground, Take, single_changes

CHANGES_AT_ONCE = 64
"""Changes of a pass. What is lost when a sweep is stopped and the hidden states on disk grow with it; beside computing
so many changes, reading the blocks once is little."""


def streamed_changes(ground: Ground, changes: Iterable[Change], take: Take) -> Steps[None]:
    """As `single_changes`, which is used where the blocks do not follow one another directly.

    Args:
        ground: what they are measured on; the model reads its blocks when they run.
        changes: what is changed; none of them is in place while another one is measured.
        take: what to do with their effects.

    Raises:
        WorkbenchError: the hidden states of a pass do not fit on the disk.
    """
    changes, parts = list(changes), ground.batches()
    if not (yield from within(Chain(ground.loaded.model, parts).open(), 0.0, 0.01)):
        return (yield from within(single_changes(ground, changes, take), 0.01, 1.0))
    for place, part in enumerate(parts):
        steps = _Batch(ground, part).measure(changes, take)
        yield from within(steps, 0.01 + 0.99 * place / len(parts), 0.01 + 0.99 * (place + 1) / len(parts))


class _Batch:
    """One batch of windows, and the unchanged model's hidden states in front of every block."""

    def __init__(self, ground: Ground, ids: Tensor) -> None:
        self._chain, self._ids = Chain(ground.loaded.model, [ids]), ids
        self._base, self._divergence = ground.base, ground.divergence
        self._home = self._chain.home()

    def measure(self, changes: Sequence[Change], take: Take) -> Steps[None]:
        """Measure all changes on this batch, pass after pass."""
        chain = self._chain
        yield from within(chain.open(), 0.0, 0.01)
        ordered = sorted(changes, key=lambda change: self._home[change.matrix.name])
        groups = [ordered[start : start + CHANGES_AT_ONCE] for start in range(0, len(ordered), CHANGES_AT_ONCE)]
        states = chain.room(len(chain.blocks) + 1)
        yield from within(forward(chain, states, self._beneath, "without a change"), 0.01, 0.04)
        beneath = View(states, len(chain.blocks), self._beneath(chain.outside))
        full = (yield from within(self._full(beneath), 0.04, 0.05)) if self._divergence else None
        for place, group in enumerate(groups):
            steps = self._pass(group, states, beneath, full, take)
            yield from within(steps, 0.05 + 0.95 * place / len(groups), 0.05 + 0.95 * (place + 1) / len(groups))

    def _full(self, beneath: View) -> Steps[View]:
        """The full model, which is what lies beneath unless other weights are in place there."""
        if not self._base:
            return beneath
        states = self._chain.room(len(self._chain.blocks) + 1)
        yield from forward(self._chain, states, lambda _: {}, "the full model")
        return View(states, len(self._chain.blocks), {})

    def _beneath(self, matrices: Sequence[Matrix]) -> dict[str, Tensor]:
        """What lies beneath the changes, by parameter name, as the model stores it."""
        moved = [matrix for matrix in matrices if moves(self._base, matrix.name)]
        return {matrix.name: oriented(self._base[matrix.name], matrix) for matrix in moved}

    def _pass(
        self,
        group: Sequence[Change],
        states: HiddenFile,
        beneath: View,
        full: View | None,
        take: Take,
    ) -> Steps[None]:
        """Some changes from where each begins to the end, and what they did."""
        chain, live = self._chain, self._chain.room(len(group))
        views: list[View] = []
        for at, change in enumerate(group):
            apart = self._home[change.matrix.name] < 0
            outside: Mapping[str, Tensor] = {**beneath.values, **_stored(change)} if apart else beneath.values
            views.append(View(live, at, outside))
            if apart:
                yield Progress(0, 1, change.note)
                live[at] = embed(chain, self._ids, outside)
        first, total = max(0, self._home[group[0].matrix.name]), len(chain.blocks)
        for place in range(first, total):
            steps = self._block(place, group, states, live)
            yield from within(steps, 0.9 * (place - first), 0.9 * (place + 1 - first), total - first)
        steps = read_views(chain, self._ids, [beneath, *views], full)
        readings = yield from within(steps, 0.9, 1.0)
        loss, kl = readings[0]
        for change, (other, divergence) in zip(group, readings[1:], strict=True):
            take(change, Effect(other - loss, None if kl is None or divergence is None else divergence - kl))

    def _block(self, place: int, group: Sequence[Change], states: HiddenFile, live: HiddenFile) -> Steps[None]:
        """All that have begun pass a block, and the changes of its own matrices begin."""
        chain = self._chain
        chain.fetch(place)
        beneath = self._beneath(chain.blocks[place].matrices)
        begun = [at for at, change in enumerate(group) if self._home[change.matrix.name] <= place]
        for done, at in enumerate(begun):
            yield Progress(done, len(begun), group[at].note)
            if self._home[group[at].matrix.name] == place:
                live[at] = pass_block(chain, place, states[place], beneath | _stored(group[at]))
            else:
                live[at] = pass_block(chain, place, live[at], beneath)


def _stored(change: Change) -> dict[str, Tensor]:
    """A changed matrix by its name, as the model stores it."""
    return {change.matrix.name: oriented(change.weight().to(torch.float32), change.matrix)}
