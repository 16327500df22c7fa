"""Swaps that are measured: where matrices do not add up, a neighbour of the solved plan may be better than it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.allocation.cells import options_of
from workbench.allocation.items import Choice, Item
from workbench.allocation.plan import Plan, diff
from workbench.allocation.planning import Wish, items_of, write
from workbench.allocation.solution import Picks, Solution, solution
from workbench.allocation.solve import solve_milp
from workbench.allocation.swaps import picks_of, swaps
from workbench.allocation.ties import tie, untie
from workbench.progress import Progress, Steps, T, within
from workbench.scheme import Scheme
from workbench.studies.around import revalued, values_around
from workbench.studies.hurry import Hurry
from workbench.studies.plan_meter import PlanMeter, Reading

PATIENCE = 12
"""Neighbours that are measured in vain before a plan counts as one that no swap helps."""

LOOKING = 0.5
"""Most of the time left that may go into measuring what single changes around a plan cost."""


@dataclass(frozen=True)
class Board:
    """What swaps are made on: a sensitivity document, the inspected model and the wishes that every plan keeps."""

    cells: Mapping[str, Any]
    inspected: Mapping[str, Any]
    wish: Wish
    single: tuple[Item, ...] = field(init=False)
    items: tuple[Item, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = items_of(self.cells, self.inspected["matrices"], self.wish)
        object.__setattr__(self, "single", found)
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

    def scheme_of(self, choice: Choice) -> Scheme:
        """A choice with the options that its cells were measured under."""
        return Scheme(*choice.scheme, options=options_of(self.cells, choice.quantizer))

    def neighbours(self, picks: Picks, items: Sequence[Item], most: int) -> Iterator[Picks]:
        """What to try next by the values of `items`: the plan that they make the best, then swaps, best first."""
        found = solve_milp(items, self.wish.request.bits).choices
        best = picks_of(items, dict(found))
        if not np.array_equal(best, picks):
            yield best
        yield from swaps(items, picks, self.wish.request.bits, most)


@dataclass(frozen=True)
class Refined:
    """The best plan that was found, what it cost, and the swaps that led to it."""

    plan: Plan
    reading: Reading
    swaps: list[dict[str, Any]]
    measured: int
    ended: str


def refine(
    board: Board,
    plan: Plan,
    meter: PlanMeter,
    *,
    seconds: float,
    patience: int = PATIENCE,
    around: bool = True,
    hurry: Hurry | None = None,
) -> Steps[Refined]:
    """Take measured swaps until none of the next neighbours is better by more than a standard error, or time is up.

    What to try next is told by single changes around the plan, measured on some windows; the change of all matrices
    that they promise most of comes first. The order of the neighbours does not depend on time unless that takes too
    long, and every reading is kept as a cell, so a search that was interrupted goes on where it was. It also ends, with
    the best plan so far, when somebody is in a hurry.

    Args:
        board: choices and wishes.
        plan: where to start; a plan of the board's table.
        meter: the text that it is measured on.
        seconds: time that may be spent on measuring; what was found by then is returned.
        patience: neighbours measured in vain before the search ends.
        around: whether to measure around the plan; else the sums of the board's table give the order.
        hurry: through which somebody can ask it to end.
    """
    hurry = hurry or Hurry()
    with hurry.search():
        return (yield from _search(board, plan, meter, seconds, patience, around, hurry))


def _search(
    board: Board, plan: Plan, meter: PlanMeter, seconds: float, patience: int, around: bool, hurry: Hurry
) -> Steps[Refined]:
    until, taken, measured = time.monotonic() + seconds, [], 0
    best = yield from within(meter.read(plan, "the plan"), 0.0, 0.05)
    picks, ended = board.start(plan), "the plan is not of this table"
    while picks is not None:
        ended, items = "no swap helps", None
        if around:
            looked = time.monotonic() + LOOKING * (until - time.monotonic())
            share = _share(until, seconds)
            looking = _unless(_items_around(board, plan, meter), lambda end=looked: hurry.asked or _past(end))
            items = yield from within(looking, share, share)
            around = items is not None
        for other in board.neighbours(picks, items or board.items, patience):
            if hurry.asked or _past(until):
                return Refined(plan, best, taken, measured, "it was stopped" if hurry.asked else "the time was spent")
            share = _share(until, seconds)
            yield Progress(share, 1, f"swap {measured + 1}: {len(taken)} taken")
            changed = board.plan(other)
            reading = _unless(meter.read(changed, f"swap {measured + 1}"), lambda: hurry.asked)
            read = yield from within(reading, share, share)
            if read is None:
                continue
            measured += 1
            found = read.over(best)
            if found.difference < -found.standard_error:
                taken.append(_row(plan, changed, found.difference, found.standard_error))
                plan, best, picks = changed, read, other
                break
        else:
            break
    return Refined(plan, best, taken, measured, ended)


def _past(until: float) -> bool:
    return time.monotonic() >= until


def _share(until: float, seconds: float) -> float:
    return 1 - max(0.0, until - time.monotonic()) / max(seconds, 1e-9)


def _items_around(board: Board, plan: Plan, meter: PlanMeter) -> Steps[tuple[Item, ...]]:
    """The board's items with what their choices cost around the plan."""
    values = yield from values_around(meter, plan, board.single, board.scheme_of)
    return revalued(board.items, values)


def _unless(steps: Steps[T], stop: Callable[[], bool]) -> Steps[T | None]:
    """The result of `steps` unless it is told to stop before they end, then None."""
    try:
        while not stop():
            yield next(steps)
    except StopIteration as finished:
        return finished.value
    finally:
        steps.close()
    return None


def _row(before: Plan, after: Plan, difference: float, error: float) -> dict[str, Any]:
    changes: Sequence[Any] = diff(before, after)
    words = ", ".join(f"{one.matrix} {one.bits_a} to {one.bits_b} bits" for one in changes)
    return {"swap": words, "difference": difference, "standard_error": error}
