"""The knapsack as an integer program for HiGHS (through scipy.optimize.milp).

scipy is imported by the function that needs it: it takes half a second, and a live slider does without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from workbench.allocation.solution import Picks, Table

# Up to this many choices in all an exact answer takes a fraction of a second (224 matrices x 6 schemes: 0.1 s); above,
# a thousandth of the objective is close enough.
SMALL = 2000
LARGE_GAP = 1e-3


@dataclass(frozen=True)
class Answer:
    """Picks within the budget, a lower bound on the value of any such, and whether HiGHS ended by itself."""

    picks: Picks
    bound: float
    finished: bool


@dataclass(frozen=True)
class _Program:
    """The choices that may be part of a better plan, one 0/1 variable each: place, scaled cost, scaled size."""

    items: Int[np.ndarray, " variable"]
    choices: Int[np.ndarray, " variable"]
    costs: Float[np.ndarray, " variable"]
    sizes: Float[np.ndarray, " variable"]
    most: int


def improve(table: Table, left: int, first: Picks, *, time_limit: float, relative_gap: float | None) -> Answer:
    """Look for picks better than `first`; they are returned where HiGHS finds none in time.

    Args:
        table: values and sizes.
        left: bits that may be spent over the smallest choices.
        first: picks within the budget.
        time_limit: seconds.
        relative_gap: when HiGHS may stop; None for 0 on small tables and a thousandth on large ones.
    """
    least = table.values.min(axis=1)
    # Summed after the subtraction: a difference of sums could come out below one of its terms.
    scale = float((table.of(first)[0] - least).sum())
    if scale == 0:
        return Answer(first, table.value(first), True)
    program = _program(table, left, scale)
    if relative_gap is None:
        relative_gap = 0.0 if len(program.items) <= SMALL else LARGE_GAP
    answer = _run(program, time_limit, relative_gap)
    bound = -np.inf if answer.mip_dual_bound is None else answer.mip_dual_bound * scale + float(least.sum())
    if answer.x is None:
        return Answer(first, bound, False)
    shares = np.zeros(table.values.shape)
    shares[program.items, program.choices] = answer.x
    found = shares.argmax(axis=1)
    kept = table.size(found) <= left and table.value(found) < table.value(first)
    return Answer(found if kept else first, bound, answer.status == 0)


def _program(table: Table, left: int, scale: float) -> _Program:
    """Both rows scaled so that HiGHS's fixed tolerances (1e-6) are small beside what they measure.

    A choice that alone costs more than all of the first plan is in no better one; without these, every scaled cost is
    at most 1 and the optimum is about 1. Sizes become small whole numbers: a budget kept to 1e-6 is kept exactly.
    """
    over = table.values - table.values.min(axis=1, keepdims=True)
    items, choices = np.nonzero(over <= scale)
    sizes = table.sizes[items, choices]
    step = max(int(np.gcd.reduce(sizes)), 1)
    return _Program(items, choices, over[items, choices] / scale, sizes / step, left // step)


def _run(program: _Program, time_limit: float, relative_gap: float):
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, vstack

    count = len(program.items)
    # Every item keeps at least its best choice, so that the last one tells how many items there are.
    one_each = csr_array((np.ones(count), (program.items, np.arange(count))))
    rows = vstack([one_each, csr_array(program.sizes[None])])
    ones = np.ones(program.items[-1] + 1)
    return milp(
        program.costs,
        integrality=np.ones(count),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, np.r_[ones, 0], np.r_[ones, program.most]),
        options={"time_limit": time_limit, "mip_rel_gap": relative_gap},
    )
