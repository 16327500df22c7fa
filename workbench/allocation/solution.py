"""A solution, the table that solvers work on, and the plans that need no solver: uniform ones and those set by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from workbench.allocation.items import Choice, Item, restrict
from workbench.errors import WorkbenchError, shown

Picks = Int[np.ndarray, " item"]


@dataclass(frozen=True)
class Solution:
    """One choice a matrix, and how it was found.

    Attributes:
        choices: of every matrix, in the items' order.
        numel: weights in all.
        value: sum of the choices' values.
        bound: no plan within the budget has a smaller value than this; None where nothing was proven.
        status: `optimal` (within the solver's own tolerance), `feasible`, `stopped early`, `uniform` or `by hand`.
        seconds: wall time of the solver.
        locks: the widths that a person had fixed.
        ties: groups of matrices that had to be alike.
        tie_price: by how much the value rose for the ties; None where it was not asked.
    """

    choices: dict[str, Choice]
    numel: int
    value: float
    bound: float | None
    status: str
    solver: str
    version: str | None
    seconds: float
    locks: dict[str, int]
    ties: tuple[tuple[str, ...], ...] = ()
    tie_price: float | None = None

    @property
    def stored_bits(self) -> float:
        """Mean stored bits per weight."""
        return sum(choice.size for choice in self.choices.values()) / self.numel

    @property
    def gap(self) -> float | None:
        """How far the value may lie above the best, as a share of itself; None where nothing was proven, or of zero."""
        if self.bound is None:
            return None
        if self.value <= self.bound:
            return 0.0
        return (self.value - self.bound) / abs(self.value) if self.value else None


class Table:
    """The items as arrays, short rows filled up with choices of infinite value.

    Attributes:
        values: `[item, choice]`.
        sizes: `[item, choice]` bits over the item's smallest choice: whole numbers, so that sums are exact.
        base: bits of all the smallest choices together.
    """

    values: Float[np.ndarray, "item choice"]
    sizes: Int[np.ndarray, "item choice"]

    def __init__(self, items: Sequence[Item]) -> None:
        shape = (len(items), max(len(item.choices) for item in items))
        self.values, self.sizes = np.full(shape, np.inf), np.zeros(shape, np.int64)
        for row, item in enumerate(items):
            self.values[row, : len(item.choices)] = [choice.value for choice in item.choices]
            self.sizes[row, : len(item.choices)] = [choice.size - item.choices[0].size for choice in item.choices]
        self.base = sum(item.choices[0].size for item in items)
        self._every = np.arange(len(items))

    def value(self, picks: Picks) -> float:
        """Sum of values."""
        return float(self.values[self._every, picks].sum())

    def size(self, picks: Picks) -> int:
        """Sum of sizes, in bits over `base`."""
        return int(self.sizes[self._every, picks].sum())

    def of(self, picks: Picks) -> tuple[Float[np.ndarray, " item"], Int[np.ndarray, " item"]]:
        """Value and size of every item's pick."""
        return self.values[self._every, picks], self.sizes[self._every, picks]


def budget_range(items: Sequence[Item]) -> tuple[float, float]:
    """The smallest and the largest budget that mean something, in stored bits per weight.

    Both are rounded up to four decimals, so that what a person reads is what a person may type.
    """
    numel = sum(item.numel for item in items)
    smallest = sum(item.choices[0].size for item in items) / numel
    largest = sum(item.choices[-1].size for item in items) / numel
    return math.ceil(smallest * 1e4 - 1e-6) / 1e4, math.ceil(largest * 1e4 - 1e-6) / 1e4


def room(items: Sequence[Item], table: Table, budget: float) -> int:
    """The bits that a budget leaves over the smallest choices.

    Raises:
        WorkbenchError: the budget is not a number, or outside `budget_range`.
    """
    smallest, largest = budget_range(items)
    if not math.isfinite(budget):
        raise WorkbenchError(
            f"the budget has value {budget}; it should lie between {smallest:g} and {largest:g} stored bits"
        )
    # A budget that was computed as bits / weights should not lose its last bit to rounding.
    left = math.floor(budget * sum(item.numel for item in items) * (1 + 1e-12)) - table.base
    if left < 0 or budget > largest:
        side = "below the smallest" if left < 0 else "above the largest"
        raise WorkbenchError(
            f"a budget of {budget:g} stored bits per weight is {side} that these choices allow; it should lie between "
            f"{smallest:g} and {largest:g}"
        )
    return left


def solution(items: Sequence[Item], picks: Picks | Sequence[int], *, status: str, **facts: object) -> Solution:
    """The solution of one pick an item; `facts` are further fields of `Solution`."""
    choices = {item.name: item.choices[int(pick)] for item, pick in zip(items, picks, strict=True)}
    known = {"bound": None, "solver": status, "version": None, "seconds": 0.0, **facts}
    return Solution(
        choices=choices,
        numel=sum(item.numel for item in items),
        value=sum(choice.value for choice in choices.values()),
        status=status,
        locks={item.name: choices[item.name].bits for item in items if item.locked},
        **known,
    )


def uniform_picks(items: Sequence[Item]) -> list[Picks]:
    """One scheme for all matrices but the locked ones, for every scheme that all of them have; from small to large."""
    places = [{choice.scheme: place for place, choice in enumerate(item.choices)} for item in items]
    free = [held for held, item in zip(places, items, strict=True) if not item.locked]
    common = [scheme for scheme in (free[0] if free else ()) if all(scheme in held for held in free)]
    return [np.array([held.get(scheme, 0) for held in places]) for scheme in common]


def uniform_solutions(items: Sequence[Item]) -> list[Solution]:
    """The uniform plans, from small to large: always worth measuring beside a solved one."""
    return [solution(items, picks, status="uniform") for picks in uniform_picks(items)]


def chosen(items: Sequence[Item], widths: Mapping[str, int]) -> Solution:
    """The solution that a person set by hand; where a width was measured under several schemes, the best of them.

    Raises:
        WorkbenchError: a matrix without a width, an unknown matrix, or a width that was not measured.
    """
    lacking = [item.name for item in items if item.name not in widths]
    if lacking:
        raise WorkbenchError(f"no width is given for {shown(lacking[0])}; every matrix needs one")
    kept = restrict(items, locks=widths)
    best = [min(item.choices, key=lambda choice: choice.value) for item in kept]
    picks = [item.choices.index(choice) for item, choice in zip(items, best, strict=True)]
    return solution(items, picks, status="by hand")
