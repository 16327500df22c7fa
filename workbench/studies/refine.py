"""Swaps that are measured: where matrices do not add up, a neighbour of the solved plan may be better than it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.allocation.items import Item
from workbench.allocation.plan import Plan, diff
from workbench.allocation.planning import Wish, items_of, write
from workbench.allocation.solution import Picks, Solution, solution
from workbench.allocation.swaps import picks_of, swaps
from workbench.allocation.ties import tie, untie
from workbench.progress import Progress, Steps, within
from workbench.studies.plan_meter import PlanMeter, Reading

PATIENCE = 24
"""Neighbours that are measured in vain before a plan counts as one that no swap helps."""


@dataclass(frozen=True)
class Board:
    """What swaps are made on: a sensitivity document, the inspected model and the wishes that every plan keeps."""

    cells: Mapping[str, Any]
    inspected: Mapping[str, Any]
    wish: Wish
    items: tuple[Item, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = items_of(self.cells, self.inspected["matrices"], self.wish)
        object.__setattr__(self, "items", tie(found, self.wish.ties))

    def start(self, plan: Plan) -> Picks | None:
        """Where a plan of this table stands; None where the table does not know one of its schemes."""
        held: dict[str, Any] = {}
        for item in self.items:
            tensor = plan.tensors[item.name]
            scheme = (tensor.method, tensor.bits, tensor.group_size, tensor.symmetric)
            held[item.name] = next((choice for choice in item.choices if choice.scheme == scheme), None)
        return None if None in held.values() else picks_of(self.items, held)

    def plan(self, picks: Picks) -> Plan:
        """The plan of some picks."""
        found: Solution = untie(solution(self.items, picks, status="refined", solver="measured swaps"), self.items)
        return write(found, self.cells, self.inspected, self.wish)


@dataclass(frozen=True)
class Refined:
    """The best plan that was found, what it cost, and the swaps that led to it."""

    plan: Plan
    reading: Reading
    swaps: list[dict[str, Any]]
    measured: int
    ended: str


def refine(board: Board, plan: Plan, meter: PlanMeter, *, seconds: float, patience: int = PATIENCE) -> Steps[Refined]:
    """Take measured swaps until none of the next neighbours is better by more than a standard error, or time is up.

    The order of the neighbours does not depend on time and every reading is kept as a cell, so a search that was
    interrupted goes on where it was when it is started again.

    Args:
        board: choices and wishes.
        plan: where to start; a plan of the board's table.
        meter: the text that it is measured on.
        seconds: time that may be spent on measuring; what was found by then is returned.
        patience: neighbours measured in vain before the search ends.
    """
    until, taken, measured = time.monotonic() + seconds, [], 0
    best = yield from within(meter.read(plan, "the plan"), 0.0, 0.05)
    picks, ended = board.start(plan), "the plan is not of this table"
    while picks is not None:
        ended = "no swap helps"
        for other in _neighbours(board, picks, patience):
            if time.monotonic() >= until:
                return Refined(plan, best, taken, measured, "the time was spent")
            share = 1 - max(0.0, until - time.monotonic()) / max(seconds, 1e-9)
            yield Progress(share, 1, f"swap {measured + 1}: {len(taken)} taken")
            changed = board.plan(other)
            reading = yield from within(meter.read(changed, f"swap {measured + 1}"), share, share)
            measured += 1
            found = reading.over(best)
            if found.difference < -found.standard_error:
                taken.append(_row(plan, changed, found.difference, found.standard_error))
                plan, best, picks = changed, reading, other
                break
        else:
            break
    return Refined(plan, best, taken, measured, ended)


def _neighbours(board: Board, picks: Picks, patience: int) -> Iterator[Picks]:
    yield from swaps(board.items, picks, board.wish.request.bits, patience)


def _row(before: Plan, after: Plan, difference: float, error: float) -> dict[str, Any]:
    changes: Sequence[Any] = diff(before, after)
    words = ", ".join(f"{one.matrix} {one.bits_a} to {one.bits_b} bits" for one in changes)
    return {"swap": words, "difference": difference, "standard_error": error}
