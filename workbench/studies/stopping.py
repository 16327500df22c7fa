"""When a cell of a sweep has seen enough windows: the rule, and the margins that a plan leaves it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.allocation.items import Choice, Item
from workbench.allocation.solve import budget_range, solve_lagrangian
from workbench.errors import WorkbenchError

FEWEST = 4
"""Windows that decide something at the earliest."""

RESOLUTION = 0.001
"""Nats a token below which a single matrix makes no difference to a plan, when no budget says otherwise."""

BISECTIONS = 60

Place = tuple[str, Choice]
"""A matrix by name and one of its choices."""


@dataclass(frozen=True)
class Stop:
    """The rule. A cell stops after n of N windows when

        s(n) sqrt(1/n - 1/N) <= precision * resolution

    with s(n) the standard deviation of what is compared over the n windows; the left side is the standard error of the
    mean over n as an estimate of the mean over all N, and is zero at n = N. Without budgets, what is compared is the
    cell's own difference, and the resolution is its size, at least `RESOLUTION`. With budgets, a cell is compared with
    the matrix's best choice under each budget, and the resolution is by how much it loses to that choice beyond the
    solver's gap: it stops when it cannot become part of the plan, and the best choice stops when no other one can. What
    a plan may choose between is thus measured on all windows.

    Attributes:
        precision: None to use all windows; 0.4 lets a cell out at 2.5 standard errors.
        budgets: stored bits per weight that plans will be made for; None when they are not known.
    """

    precision: float | None = None
    budgets: tuple[float, ...] | None = None

    def check(self) -> Stop:
        """Itself.

        Raises:
            WorkbenchError: a precision outside of 0 to 1, or budgets that nothing would use.
        """
        if self.precision is not None and not 0 < self.precision <= 1:
            raise WorkbenchError(
                f"precision has value {self.precision}; it must lie above 0 and be at most 1, or be left out"
            )
        if self.budgets is not None and self.precision is None:
            raise WorkbenchError("budgets say when a sweep may stop early; give a precision with them")
        if self.budgets is not None and not all(math.isfinite(one) and one > 0 for one in self.budgets):
            raise WorkbenchError(f"budgets have values {list(self.budgets)[:8]}; each must be a number above zero")
        return self

    def is_near(self, differences: Sequence[float], of: int) -> bool:
        """The rule without budgets, for the differences of the first windows out of `of`."""
        assert self.precision is not None
        size = abs(sum(differences) / len(differences))
        return _error(differences, of) <= self.precision * max(size, RESOLUTION)

    def open_choices(self, items: Sequence[Item], windows: Mapping[Place, Sequence[float]], of: int) -> set[Place]:
        """The rule with budgets: the choices that must be measured further.

        Args:
            items: what a plan chooses from, with the values measured so far.
            windows: the differences of every matrix and choice, window by window.
            of: windows in all.
        """
        assert self.precision is not None
        found: set[Place] = set()
        low, high = budget_range(items)
        for budget in {min(max(one, low), high) for one in self.budgets or ()}:
            price, gap = price_and_gap(items, budget)
            for item in items:
                best, *rest = sorted(item.choices, key=lambda one: one.value + price * one.size)
                for other in rest:
                    loses = other.value - best.value + price * (other.size - best.size) - gap
                    places = (item.name, best), (item.name, other)
                    pairs = zip(*(windows[place] for place in places), strict=False)  # the windows that both have seen
                    if _error([a - b for a, b in pairs], of) > self.precision * loses:
                        found.update(places)
        return found


def rounds_of(total: int) -> list[int]:
    """After how many windows cells are looked at: 4, 8, and then half as many again each time, in fours, to all."""
    rounds, end = [], FEWEST
    while end < total:
        rounds.append(end)
        end += max(FEWEST, end // 2 // FEWEST * FEWEST)
    return [*rounds, total]


def price_and_gap(items: Sequence[Item], budget: float) -> tuple[float, float]:
    """The price on a bit at which free choices just keep the budget, and by how much the best plan may miss its bound.

    A choice that is worse than its matrix's best by more than the gap, bits priced, is in no optimal plan
    (fixing by reduced costs).
    """
    total, table = budget * sum(item.numel for item in items), _Table(items)
    low, high = 0.0, 2 * table.spread + 1e-12
    for _ in range(BISECTIONS):
        price = (low + high) / 2
        low, high = (low, price) if table.cheapest(price)[1] <= total else (price, high)
    value, size = table.cheapest(high)
    return high, max(0.0, solve_lagrangian(items, budget).value - (value + high * (size - total)))


class _Table:
    """All choices of all matrices side by side."""

    def __init__(self, items: Sequence[Item]) -> None:
        shape = len(items), max(len(item.choices) for item in items)
        self._values, self._sizes = np.full(shape, np.inf), np.zeros(shape)
        for row, item in enumerate(items):
            self._values[row, : len(item.choices)] = [choice.value for choice in item.choices]
            self._sizes[row, : len(item.choices)] = [choice.size for choice in item.choices]
        known = self._values[np.isfinite(self._values)]
        self.spread = float(known.max() - known.min())

    def cheapest(self, price: float) -> tuple[float, float]:
        """Summed value and size of the choices that are cheapest at a price on a bit."""
        chosen = np.argmin(self._values + price * self._sizes, axis=1)[:, None]
        values, sizes = (np.take_along_axis(one, chosen, 1) for one in (self._values, self._sizes))
        return float(values.sum()), float(sizes.sum())


def _error(differences: Sequence[float], of: int) -> float:
    """Standard error of a mean over the first windows, as an estimate of the mean over all of them."""
    count = len(differences)
    if count < 2:
        return math.inf if count < of else 0.0
    return float(np.std(differences, ddof=1)) * math.sqrt(max(0.0, 1 / count - 1 / of))
