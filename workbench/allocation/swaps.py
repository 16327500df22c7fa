"""The plans one step away from a plan that still keep the budget: what a search by measuring tries next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.allocation.items import Item
from workbench.allocation.solution import Picks, Table, room


def picks_of(items: Sequence[Item], choices: dict[str, object]) -> Picks:
    """Where the choices of a solution of these items stand in their lists."""
    return np.array([item.choices.index(choices[item.name]) for item in items])  # type: ignore[arg-type]


def swaps(items: Sequence[Item], picks: Picks, budget: float, limit: int) -> list[Picks]:
    """The most promising picks that differ from `picks` in one item, or in one that rises and one that falls.

    They are ordered by their summed values. Around an optimal plan none of them is better by those sums; the sums are
    what a measurement may prove wrong.

    Args:
        items: what to choose from, tied ones joined.
        picks: the plan.
        budget: mean stored bits per weight.
        limit: the most that are returned.
    """
    table = Table(items)
    left = room(items, table, budget) - table.size(picks)
    values, sizes = table.of(picks)
    change, growth = table.values - values[:, None], table.sizes - sizes[:, None]
    moves = [(int(i), int(c)) for i, c in np.argwhere(np.isfinite(change)) if c != picks[i]]
    singles = [((i, c),) for i, c in moves if growth[i, c] <= left]
    rising = [(i, c) for i, c in moves if growth[i, c] > left]
    falling = [(i, c) for i, c in moves if growth[i, c] < 0]
    pairs = [(up, down) for up in rising for down in falling if up[0] != down[0] and growth[up] + growth[down] <= left]
    ranked = sorted([*singles, *pairs], key=lambda steps: sum(change[step] for step in steps))
    return [_moved(picks, steps) for steps in ranked[:limit]]


def _moved(picks: Picks, steps: Sequence[tuple[int, int]]) -> Picks:
    moved = picks.copy()
    for item, choice in steps:
        moved[item] = choice
    return moved
