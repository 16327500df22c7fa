"""The rule of thumb that a solved plan has to beat: the matrices of the highest salience get more bits.

Nothing is measured: all matrices take the largest common width that fits the budget, then those of the highest score
rise, one after the other, to the next width as long as it fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.allocation.items import Item
from workbench.allocation.solution import Solution, Table, room, solution, uniform_picks


def by_score(items: Sequence[Item], scores: Mapping[str, float], budget: float) -> Solution:
    """The plan of the rule.

    Args:
        items: one quantizer's choices for every matrix.
        scores: matrix -> its salience, a mean over its weights; more is more important.
        budget: mean stored bits per weight.

    Raises:
        WorkbenchError: the budget is outside of the items' range.
    """
    table = Table(items)
    left = room(items, table, budget)
    fitting = [picks for picks in uniform_picks(items) if table.size(picks) <= left]
    picks = fitting[-1].copy() if fitting else 0 * uniform_picks(items)[0]
    for place in sorted(range(len(items)), key=lambda index: -scores[items[index].name]):
        raised = picks.copy()
        raised[place] = min(picks[place] + 1, len(items[place].choices) - 1)
        if table.size(raised) <= left:
            picks = raised
    return solution(items, picks, status="by score", solver="highest salience first")
