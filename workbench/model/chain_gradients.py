"""Gradients of a model that is worked through part by part: all windows forward, block after block, and back again.

Hidden states in front of every block lie in a file. On the way back a block is run once more from there, with a graph
of its own, so that memory holds the weights, the gradients and one batch's activations of one block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.model.backward import GradientSums, make_leaves, taker, zeros_for
from workbench.model.chain import Chain, part_of
from workbench.model.hidden_file import HiddenFile
from workbench.model.matrices import Matrix
from workbench.progress import Progress, Steps, within

Point = Callable[[Sequence[Matrix]], dict[str, Tensor]]
"""Parameter name -> value of those matrices that are not the model's own, as the model stores them."""

Finish = Callable[[Sequence[Matrix], GradientSums], None]
"""Takes the sums of one part."""


def chain_gradients(
    chain: Chain,
    point: Point,
    finish: Finish,
    note: str,
    *,
    mean: bool = True,
    squares: bool = False,
    only: int | None = None,
) -> Steps[float]:
    """The mean loss over all windows, and its gradient at a point, handed over part by part from the back.

    Args:
        chain: the model and its batches; single windows when squares are wanted.
        point: where the gradient is taken.
        finish: is called once for every part.
        note: what to say of it.
        mean: whether to sum the gradients.
        squares: whether to sum their squares.
        only: place of the one block whose gradients are wanted, -1 for what stands in none; None for all.
    """
    states = chain.room(len(chain.blocks) + 1)
    yield from within(forward(chain, states, point, note), 0.0, 0.3)
    descent = _Descent(chain, states, point, mean, squares)
    loss = yield from within(descent.head(note), 0.3, 0.4)
    down = range(len(chain.blocks) - 1, max(only or 0, 0) - 1, -1)
    for done, place in enumerate(down):
        finish_here = finish if only in (None, place) else _drop
        steps = descent.block(place, finish_here, note)
        yield from within(steps, 0.4 + 0.6 * done / len(down), 0.4 + 0.6 * (done + 1) / len(down))
    if only in (None, -1) and chain.outside:
        yield from descent.front(finish, note)
    return loss


def _drop(matrices: Sequence[Matrix], sums: GradientSums) -> None:
    """Of a block that is only passed on the way to another one."""


def forward(chain: Chain, states: HiddenFile, point: Point, note: str) -> Steps[None]:
    """Fill the hidden states in front of every block and behind the last one."""
    batches, total = len(chain.batches), len(chain.blocks)
    outside = point(chain.outside)
    for batch, ids in enumerate(chain.batches):
        yield Progress(0, total, f"{note}: embedding the windows")
        states[batch] = embed(chain, ids, outside)
    for place, block in enumerate(chain.blocks):
        yield Progress(place, total, f"{note}: forward through {block.path}")
        chain.fetch(place)
        values = point(block.matrices)
        for batch in range(batches):
            yield Progress(place + batch / batches, total, f"{note}: forward through {block.path}")
            states[(place + 1) * batches + batch] = pass_block(chain, place, states[place * batches + batch], values)


@torch.no_grad()
def embed(chain: Chain, ids: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Hidden states in front of the first block, no gradient."""
    return chain.front(ids, values)


@torch.no_grad()
def pass_block(chain: Chain, place: int, hidden: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Hidden states behind a block, no gradient."""
    return chain.run(place, hidden, values)


class _Descent:
    """The way back: in front of each part, the gradient of each batch's mean loss by its hidden states."""

    def __init__(self, chain: Chain, states: HiddenFile, point: Point, mean: bool, squares: bool) -> None:
        self._chain, self._states, self._point, self._mean, self._squares = chain, states, point, mean, squares
        self._slopes = chain.room(1)
        self._windows = sum(len(ids) for ids in chain.batches)
        self._behind = GradientSums()  # of matrices outside of blocks
        self._share = [0.0]

    def head(self, note: str) -> Steps[float]:
        """From the loss to behind the last block; returns the loss."""
        chain, count = self._chain, len(self._chain.batches)
        leaves, self._behind = self._leaves(-1)
        take = self._takers(leaves, self._behind)
        loss = 0.0
        for batch, ids in enumerate(chain.batches):
            yield Progress(batch, count, f"{note}: the loss")
            self._share[0] = len(ids) / self._windows
            part, self._slopes[batch] = self._loss(ids, self._states[len(chain.blocks) * count + batch], leaves)
            loss += self._share[0] * part
            for name, leaf in leaves.items():
                take[name](leaf)
        return loss

    def _loss(self, ids: Tensor, hidden: Tensor, leaves: Mapping[str, Tensor]) -> tuple[float, Tensor]:
        """Mean loss of a batch and its gradient by the hidden states, a run of tokens at a time."""
        hidden, loss = hidden.requires_grad_(), 0.0
        for kept in self._chain.chunks(ids):
            with torch.enable_grad():
                part = chunk_loss(self._chain, ids, hidden, leaves, kept)
                part.backward(inputs=[hidden, *leaves.values()])
            loss += float(part.detach())
        assert hidden.grad is not None
        return loss, hidden.grad

    def block(self, place: int, finish: Finish, note: str) -> Steps[None]:
        """Through one block, run anew."""
        chain, count = self._chain, len(self._chain.batches)
        path = chain.blocks[place].path
        yield Progress(0, count, f"{note}: back through {path}")
        chain.fetch(place)
        leaves, sums = self._leaves(place, passed=finish is _drop)
        for name, take in self._takers(leaves, sums).items():
            leaves[name].register_post_accumulate_grad_hook(take)
        for batch, ids in enumerate(chain.batches):
            yield Progress(batch, count, f"{note}: back through {path}")
            self._share[0] = len(ids) / self._windows
            hidden = self._states[place * count + batch].requires_grad_()
            with torch.enable_grad():
                output = chain.run(place, hidden, leaves)
                output.backward(self._slopes[batch], inputs=[hidden, *leaves.values()])
            if hidden.grad is not None:
                self._slopes[batch] = hidden.grad
        finish(chain.blocks[place].matrices, sums)

    def front(self, finish: Finish, note: str) -> Steps[None]:
        """Through what stands in front of the blocks, to matrices there."""
        chain = self._chain
        leaves, _ = self._leaves(-1)
        for name, take in self._takers(leaves, self._behind).items():
            leaves[name].register_post_accumulate_grad_hook(take)
        for batch, ids in enumerate(chain.batches):
            yield Progress(batch, len(chain.batches), f"{note}: back to the embeddings")
            self._share[0] = len(ids) / self._windows
            with torch.enable_grad():
                output = chain.front(ids, leaves)
                if output.requires_grad:
                    output.backward(self._slopes[batch], inputs=list(leaves.values()))
        finish(chain.outside, self._behind)

    def _leaves(self, place: int, *, passed: bool = False) -> tuple[dict[str, Tensor], GradientSums]:
        matrices = part_of(self._chain, place)
        values = self._point(matrices)
        if passed:
            return {name: value.detach() for name, value in values.items()}, GradientSums()
        leaves, sums = make_leaves(self._chain.model, matrices, values), GradientSums()
        sums.grad = {name: zeros_for(leaf) for name, leaf in leaves.items()} if self._mean else {}
        sums.grad_sq = {name: zeros_for(leaf) for name, leaf in leaves.items()} if self._squares else {}
        return leaves, sums

    def _takers(self, leaves: Mapping[str, Tensor], sums: GradientSums) -> dict[str, Callable[[Tensor], None]]:
        wanted = [name for name, leaf in leaves.items() if leaf.requires_grad]
        return {name: taker(sums.grad.get(name), sums.grad_sq.get(name), self._share) for name in wanted}


def chunk_loss(chain: Chain, ids: Tensor, hidden: Tensor, values: Mapping[str, Tensor], kept: Tensor) -> Tensor:
    """What some predicted tokens of a batch add to its mean loss, nats."""
    logits = chain.logits(ids, hidden, values, kept).flatten(0, 1)
    targets = ids[:, kept + 1].flatten().to(logits.device)
    return cross_entropy(logits, targets, reduction="sum") / (len(ids) * (ids.shape[1] - 1))
