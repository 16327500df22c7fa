"""The widths that cost least within a budget: a multiple-choice knapsack, solved at once with a proven gap, or exactly.

    minimize   sum_m value[m, k(m)]   over the choices k(m)
    subject to sum_m size[m, k(m)] <= budget * sum_m numel[m]

The budget is a mean of *stored* bits per weight. The objective adds up what each matrix costs alone, which is wrong
where few bits are left and errors meet; so the uniform plans are always candidates, and what a plan really costs is to
be measured on a text that the table has not seen.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from workbench.allocation.cells import read_items, rows_of
from workbench.allocation.highs import improve
from workbench.allocation.items import Choice, Item, restrict
from workbench.allocation.solution import (
    Picks,
    Solution,
    Table,
    budget_range,
    chosen,
    room,
    solution,
    uniform_picks,
    uniform_solutions,
)

__all__ = [
    "Choice",
    "Item",
    "Solution",
    "budget_range",
    "chosen",
    "read_items",
    "restrict",
    "rows_of",
    "solve_lagrangian",
    "solve_milp",
    "uniform_solutions",
]

BISECTIONS = 60


def solve_lagrangian(items: Sequence[Item], budget: float) -> Solution:
    """The widths by a price on bits: bisection on the price, then the best single steps that still fit.

    At a price every matrix takes its choice of least `value + price * size`; the price falls until the budget is just
    kept (Everett 1963). Every price also proves a lower bound, so the gap is known. The best uniform plan within the
    budget is taken where it is better.

    Raises:
        WorkbenchError: the budget is outside `budget_range`.
    """
    started = time.perf_counter()
    table = Table(items)
    left = room(items, table, budget)
    best, bound = _lagrangian(items, table, left)
    status = "optimal" if bound == table.value(best) else "feasible"
    seconds = time.perf_counter() - started
    return solution(items, best, status=status, solver="lagrangian", bound=bound, seconds=seconds)


def solve_milp(
    items: Sequence[Item], budget: float, *, time_limit: float = 10.0, relative_gap: float | None = None
) -> Solution:
    """The widths by an integer program (HiGHS through scipy.optimize.milp), starting from the Lagrangian's.

    Where HiGHS stops early, or finds nothing better, the Lagrangian's widths stand, with the better bound of the two.

    Args:
        items: what to choose from.
        budget: mean stored bits per weight.
        time_limit: seconds for HiGHS.
        relative_gap: when HiGHS may stop; by default 0 for small tables and a thousandth for large ones.

    Raises:
        WorkbenchError: the budget is outside `budget_range`.
    """
    started = time.perf_counter()
    table = Table(items)
    left = room(items, table, budget)
    first, bound = _lagrangian(items, table, left)
    answer = improve(table, left, first, time_limit=time_limit, relative_gap=relative_gap)
    return solution(
        items,
        answer.picks,
        status="optimal" if answer.finished else "stopped early",
        solver="scipy.milp",
        version=_scipy(),
        bound=min(max(bound, answer.bound), table.value(answer.picks)),
        seconds=time.perf_counter() - started,
    )


@functools.cache
def _scipy() -> str:
    """Looked up once: reading a package's facts takes longer than solving a small table."""
    return version("scipy")


def _lagrangian(items: Sequence[Item], table: Table, left: int) -> tuple[Picks, float]:
    """Picks by price, or the best uniform ones, and the lower bound that the prices prove."""
    picks, bound = _price(table, left)
    uniform = [other for other in uniform_picks(items) if table.size(other) <= left]
    best = min([_fill(table, picks, left), *uniform], key=table.value)
    return best, min(bound, table.value(best))


def _price(table: Table, left: int) -> tuple[Picks, float]:
    """Picks that keep the budget, and a lower bound on the value of any that do."""
    freely = table.values.argmin(axis=1)
    if table.size(freely) <= left:
        return freely, table.value(freely)
    bound = table.value(freely)
    best = np.where(table.sizes == 0, table.values, np.inf).argmin(axis=1)
    low, high = 0.0, _highest_price(table)
    for _ in range(BISECTIONS):
        price = (low + high) / 2
        priced = table.values + price * table.sizes
        picks = priced.argmin(axis=1)
        bound = max(bound, float(priced.min(axis=1).sum()) - price * left)
        if table.size(picks) <= left:
            best, high = picks, price
        else:
            low = price
    return best, bound


def _highest_price(table: Table) -> float:
    """A price at which every matrix takes its smallest choice."""
    known = table.values[np.isfinite(table.values)]
    return 2 * float(known.max() - known.min()) / float(table.sizes[table.sizes > 0].min())


def _fill(table: Table, picks: Picks, left: int) -> Picks:
    """Spend what is left on the steps that save most a bit, one matrix at a time."""
    picks = picks.copy()
    while True:
        values, sizes = table.of(picks)
        saved = values[:, None] - table.values
        steps = table.sizes - sizes[:, None]
        fits = (saved > 0) & (steps <= left - table.size(picks))
        if not fits.any():
            return picks
        rate = np.where(fits, saved / np.maximum(steps, 0.5), -np.inf)
        item, choice = np.unravel_index(rate.argmax(), rate.shape)
        picks[item] = choice
