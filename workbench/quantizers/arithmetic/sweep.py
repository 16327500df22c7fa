"""Error compensation: what a column's rounding loses is made good by the columns that are still to be rounded.

Sources: GPTQ (arXiv 2210.17323) and Optimal Brain Surgeon. With the upper factor U of the inverse damped Hessian
(`linalg.inverse_cholesky`), rounding column j from w to q leaves the error e = (w - q) / U_jj, and the later columns k
move by -e U_jk. Over a whole sweep `sum e^2 / 2` is exactly 1/2 tr((W - Q) Hd (W - Q)^T).

A sweep holds the transposed weight, so that a column is one piece of memory. Columns are moved at three distances: one
by one inside a run of 16, run by run inside a block, and block by block, the last two as matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Compensation = Literal["exact", "diagonal", "none"]

RUN = 16
"""Columns that are moved one by one: few enough that a pass over their errors costs little more than its call."""

Step = Callable[[int, Float[Tensor, " out"], Float[Tensor, " out"]], None]
"""Rounds the column at a place, which is given as it is by now, and writes what that loses (w - q) to the last."""


@dataclass(frozen=True, eq=False)
class Swept:
    """A weight after a sweep.

    Attributes:
        values: what each column was rounded to, in the order of the columns that were given.
        loss: 1/2 (w - q) Hd (w - q)^T of every row, squared output error a token when Hd is made of 2 X^T X / T.
    """

    values: Float[Tensor, "out in"]
    loss: Float[Tensor, " out"]


def sweep_columns(
    weight: Float[Tensor, "out in"],
    upper: Float[Tensor, "in in"],
    quantize: Callable[[Float[Tensor, " out"], int], Float[Tensor, " out"]],
    *,
    block: int = 128,
    on_block: Callable[[Float[Tensor, "out columns"], int, int], None] | None = None,
) -> Swept:
    """Round one column after the other, each error compensated by the columns behind it.

    Args:
        weight: full weight; not changed.
        upper: factor of the inverse damped Hessian; the sweep computes in its dtype.
        quantize: takes a column as it is by now and its place, returns the values it is rounded to.
        block: columns whose updates are applied to the rest at once; it changes no result beyond rounding.
        on_block: called before the columns start..stop with their current values.
    """
    held = transposed(weight, upper.dtype)
    values = torch.empty_like(held)
    blocks = blocks_of(held.shape[0], block)

    def step(place: int, column: Float[Tensor, " out"], lost: Float[Tensor, " out"]) -> None:
        rounded = quantize(column, place)
        values[place] = rounded
        torch.sub(column, rounded, out=lost)

    def begin(start: int) -> None:
        if on_block is not None:
            stop = min(start + block, len(held))
            on_block(held[start:stop].T, start, stop)

    loss = sweep_steps(held, upper, step, blocks=blocks, begin=begin, begins=[start for start, _ in blocks])
    return Swept(values.T.contiguous(), loss)


def sweep_steps(
    held: Float[Tensor, "in out"],
    upper: Float[Tensor, "in in"],
    step: Step,
    *,
    blocks: Iterable[tuple[int, int]],
    begin: Callable[[int], None] = lambda place: None,
    begins: Iterable[int] = (),
) -> Float[Tensor, " out"]:
    """The sweep itself, for callers that know how to round into memory of their own.

    Args:
        held: the transposed weight, which is used up.
        upper: factor of the inverse damped Hessian, in the dtype of `held`.
        step: see `Step`.
        blocks: start and stop of each block, in order.
        begin: called with each of the places in `begins` before its column is rounded. The columns from there to the
            end of the block have their current values, and those behind the block too if the place starts a block.
        begins: places.

    Returns:
        The loss of every row, see `Swept`.
    """
    loss, waiting = held.new_zeros(held.shape[1]), frozenset(begins)
    cuts = sorted(waiting)
    for start, stop in blocks:
        diagonal = upper.diagonal()[start:stop]
        moves = upper[start:stop, start:] / diagonal.unsqueeze(1)
        lost = held.new_zeros(stop - start, held.shape[1])
        for first, last in _runs(start, stop, cuts):
            if first in waiting:
                begin(first)
            here, there = slice(first - start, last - start), slice(last - start, stop - start)
            _round_run(held[first:last], lost[here], moves[here, here], step, first)
            held[last:stop].addmm_(moves[here, there].T, lost[here], alpha=-1)
        held[stop:].addmm_(moves[:, stop - start :].T, lost, alpha=-1)
        loss.addmv_(lost.square_().T, diagonal.square().reciprocal(), alpha=0.5)
    return loss


def _round_run(
    held: Float[Tensor, "run out"], lost: Float[Tensor, "run out"], moves: Float[Tensor, "run run"], step: Step, at: int
) -> None:
    """Round a run of columns; the errors of all before it have reached them.

    Each column takes up the errors of the run at once, by a product over the whole run in which those that are yet to
    come count zero: on thousands of short columns, cutting views costs more than adding zeros.
    """
    before = moves.triu(1).T.contiguous().unbind(0)
    errors = lost.T
    for place, (column, error, weights) in enumerate(zip(held.unbind(0), lost.unbind(0), before, strict=True)):
        column.addmv_(errors, weights, alpha=-1)
        step(at + place, column, error)


def _runs(start: int, stop: int, cuts: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Runs of at most `RUN` columns that make up a block and do not reach across a cut."""
    bounds = [start, *(cut for cut in cuts if start < cut < stop), stop]
    for first, last in pairwise(bounds):
        yield from ((at, min(at + RUN, last)) for at in range(first, last, RUN))


def blocks_of(columns: int, block: int) -> list[tuple[int, int]]:
    """Start and stop of each block of that many columns; the last may be shorter."""
    return [(start, min(start + block, columns)) for start in range(0, columns, block)]


def transposed(weight: Float[Tensor, "out in"], dtype: torch.dtype) -> Float[Tensor, "in out"]:
    """A copy in which a column of the weight is one piece of memory."""
    return torch.empty(weight.shape[::-1], dtype=dtype, device=weight.device).copy_(weight.T)


def sweep_blocks(
    weight: Float[Tensor, "out in"],
    upper: Float[Tensor, "in in"],
    quantize: Callable[[Float[Tensor, "out columns"], int, int], Float[Tensor, "out columns"]],
    *,
    block: int = 128,
    compensation: Compensation = "diagonal",
) -> Float[Tensor, "out in"]:
    """Round whole blocks of columns at once, each block's error compensated by the columns behind it.

    Inside a block nothing is compensated. `exact` solves E U_bb = W - Q for the errors that a column by column sweep
    would have left; `diagonal` divides by the diagonal of U_bb, as the BiLLM code does; `none` leaves the rest alone.

    Args:
        weight: full weight; not changed.
        upper: factor of the inverse damped Hessian.
        quantize: takes the columns start..stop as they are by now, start and stop, returns the rounded values.
        block: columns of a block.
        compensation: how the rest is moved.
    """
    held = weight.to(upper.dtype, copy=True)
    values = torch.empty_like(held)
    for start in range(0, held.shape[1], block):
        stop = min(start + block, held.shape[1])
        part, inner = held[:, start:stop], upper[start:stop, start:stop]
        values[:, start:stop] = quantize(part, start, stop)
        lost = part - values[:, start:stop]
        if compensation == "exact":
            errors = torch.linalg.solve_triangular(inner, lost, upper=True, left=False)
        elif compensation == "diagonal":
            errors = lost / inner.diagonal()
        else:
            continue
        held[:, stop:].addmm_(errors, upper[start:stop, stop:], alpha=-1)
    return values
