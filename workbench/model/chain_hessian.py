"""The Hessian of the loss times a direction, part by part: how hidden states and slopes move, carried along with them.

With y = f(h, w) one part, a dot the derivative along the direction v and a bar the gradient of the loss:

    forward   y' = Df(h, w)[h', v]
    back      S = <y-bar', y> + <h-bar, h'> + <w-bar, v>,  h-bar and w-bar the gradients of <y-bar, y>
              h-bar' = dS/dh,  (H v)_w = dS/dw

(Pearlmutter 1994, Fast exact multiplication by the Hessian), so that second derivatives reach over one part only.

Every operation is one of `hessian_product`, in its order; where the head runs over all tokens at once, no bit differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.model.backward import make_leaves, zeros_for
from workbench.model.chain import Chain, part_of
from workbench.model.chain_gradients import chunk_loss
from workbench.model.matrices import Matrix
from workbench.progress import Progress, Steps, within

Direction = Callable[[Sequence[Matrix]], dict[str, Tensor]]
"""Parameter name -> v of those matrices that move, as the model stores them."""

Give = Callable[[Sequence[Matrix], dict[str, Tensor]], None]
"""Takes the product of one part, by parameter name."""

Run = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


def chain_product(chain: Chain, direction: Direction, give: Give, note: str) -> Steps[None]:
    """H v at the model's own weights, handed over part by part from the back.

    Args:
        chain: the model and its batches.
        direction: v.
        give: is called once for every part, with its part of H v as the model stores it.
        note: what to say of it.
    """
    product = _Product(chain, direction)
    yield from within(product.forward(note), 0.0, 0.4)
    yield from within(product.back(give, note), 0.4, 1.0)


class _Product:
    def __init__(self, chain: Chain, direction: Direction) -> None:
        self._chain, self._direction = chain, direction
        places = len(chain.blocks) + 1
        self._states, self._moves = chain.room(places), chain.room(places)
        self._slopes, self._turns = chain.room(1), chain.room(1)
        self._count = len(chain.batches)
        self._shares = [len(ids) / sum(map(len, chain.batches)) for ids in chain.batches]

    def forward(self, note: str) -> Steps[None]:
        """Hidden states in front of every part, and how they move."""
        chain, count = self._chain, self._count
        outside = self._direction(chain.outside)
        for batch, ids in enumerate(chain.batches):
            yield Progress(0, len(chain.blocks), f"{note}: embedding the windows")
            found = _moved(lambda _, values, ids=ids: chain.front(ids, values), None, None, *self._part(-1, outside))
            self._states[batch], self._moves[batch] = found
        for place, block in enumerate(chain.blocks):
            chain.fetch(place)
            direction = self._direction(block.matrices)
            for batch in range(count):
                yield Progress(place + batch / count, len(chain.blocks), f"{note}: forward through {block.path}")
                run = self._runner(place)
                at = place * count + batch
                found = _moved(run, self._states[at], self._moves[at], *self._part(place, direction))
                self._states[at + count], self._moves[at + count] = found

    def back(self, give: Give, note: str) -> Steps[None]:
        """Slopes and how they turn, from the loss to the embeddings."""
        chain, count, total = self._chain, self._count, len(self._chain.blocks) + 1
        outside = self._direction(chain.outside)
        behind = _Sums(self._part(-1, outside)[0])
        for batch, ids in enumerate(chain.batches):
            yield Progress(0, total, f"{note}: the loss")
            self._head(batch, ids, outside, behind)
        for done, place in enumerate(range(len(chain.blocks) - 1, -1, -1), start=1):
            chain.fetch(place)
            direction, run = self._direction(chain.blocks[place].matrices), self._runner(place)
            sums = _Sums(self._part(place, direction)[0])
            for batch in range(count):
                yield Progress(done + batch / count, total, f"{note}: back through {chain.blocks[place].path}")
                hidden, move = (file[place * count + batch] for file in (self._states, self._moves))
                self._back(batch, run, hidden, move, self._part(place, direction), sums)
            give(chain.blocks[place].matrices, sums.sums)
        for batch, ids in enumerate(chain.batches if chain.outside else ()):
            yield Progress(total, total, f"{note}: back to the embeddings")
            part = self._part(-1, outside)
            self._back(batch, lambda _, values, ids=ids: chain.front(ids, values), None, None, part, behind)
        give(chain.outside, behind.sums)

    def _part(self, place: int, direction: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
        """Leaves of a part for one batch, and v."""
        return make_leaves(self._chain.model, part_of(self._chain, place), {}), direction

    def _runner(self, place: int) -> Run:
        return lambda hidden, values: self._chain.run(place, hidden, values)

    def _head(self, batch: int, ids: Tensor, direction: Mapping[str, Tensor], sums: _Sums) -> None:
        """Loss, slope and turn behind the last block, a run of tokens at a time."""
        at = len(self._chain.blocks) * self._count + batch
        hidden, move = self._states[at], self._moves[at]
        slope, turn = torch.zeros_like(hidden), torch.zeros_like(hidden)
        for kept in self._chain.chunks(ids):
            leaves, _ = self._part(-1, direction)
            with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
                given = hidden.detach().requires_grad_()
                loss = chunk_loss(self._chain, ids, given, leaves, kept)
                found = _turned(loss, torch.ones_like(loss), None, given, move, leaves, direction)
            sums.add(found[2], self._shares[batch])
            slope += found[0]
            turn += found[1]
        self._slopes[batch], self._turns[batch] = slope, turn

    def _back(
        self,
        batch: int,
        run: Run,
        hidden: Tensor | None,
        move: Tensor | None,
        part: tuple[dict[str, Tensor], Mapping[str, Tensor]],
        sums: _Sums,
    ) -> None:
        leaves, direction = part
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            given = torch.zeros(()) if hidden is None else hidden.requires_grad_()
            output = run(given, leaves)
            if not output.requires_grad:
                return
            slope, turn = self._slopes[batch], self._turns[batch]
            found = _turned(output, slope, turn, None if hidden is None else given, move, leaves, direction)
        sums.add(found[2], self._shares[batch])
        if hidden is not None:
            self._slopes[batch], self._turns[batch] = found[:2]


class _Sums:
    """What batches add to the product of a part."""

    def __init__(self, leaves: Mapping[str, Tensor]) -> None:
        self.sums = {name: zeros_for(leaf) for name, leaf in leaves.items()}

    def add(self, parts: Mapping[str, Tensor], share: float) -> None:
        for name, part in parts.items():
            self.sums[name] += part.to(self.sums[name].dtype) * share


def _moved(
    run: Run,
    hidden: Tensor | None,
    move: Tensor | None,
    leaves: Mapping[str, Tensor],
    direction: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """y and y', the latter as the derivative by u of <J^T u, (h', v)>, which is linear in u."""
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        given = torch.zeros(()) if hidden is None else hidden.requires_grad_()
        output = run(given, leaves)
        pairs = [] if hidden is None or move is None else [(given, move)]
        pairs += [(leaves[name], v) for name, v in direction.items()]
        if not pairs or not output.requires_grad:
            return output.detach(), torch.zeros_like(output)
        u = torch.zeros_like(output).requires_grad_()
        slopes = torch.autograd.grad(output, [x for x, _ in pairs], u, create_graph=True, materialize_grads=True)
        total = torch.stack([(slope * v).sum() for slope, (_, v) in zip(slopes, pairs, strict=True)]).sum()
        (moved,) = torch.autograd.grad(total, [u], materialize_grads=True)
    return output.detach(), moved


def _turned(
    output: Tensor,
    slope: Tensor,
    turn: Tensor | None,
    hidden: Tensor | None,
    move: Tensor | None,
    leaves: Mapping[str, Tensor],
    direction: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """h-bar, h-bar' and H v by parameter name. Scalars of nothing where there are no hidden states."""
    pairs = [] if hidden is None or move is None else [(hidden, move)]
    pairs += [(leaves[name], v) for name, v in direction.items()]
    sources = [x for x, _ in pairs]
    first = torch.autograd.grad(output, sources, slope, create_graph=True, materialize_grads=True) if sources else ()
    terms = [(one * v).sum() for one, (_, v) in zip(first, pairs, strict=True)]
    total = torch.stack([*terms, (output * turn).sum() if turn is not None else output.new_zeros(())]).sum()
    targets = [*([] if hidden is None else [hidden]), *leaves.values()]
    second = torch.autograd.grad(total, targets, materialize_grads=True) if total.requires_grad else None
    found = second or [torch.zeros_like(one) for one in targets]
    product = dict(zip(leaves, found[len(targets) - len(leaves) :], strict=True))
    slopes = (first[0].detach(), found[0]) if first and hidden is not None else (output.detach(), output.detach())
    return *slopes, product
