"""When a cell has seen enough: the rule against numpy, and plans of stopped sweeps against those of whole ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from workbench.allocation.items import Choice, Item
from workbench.allocation.solve import solve_milp
from workbench.studies.stopping import FEWEST, Stop, price_and_gap, rounds_of

WIDTHS = (2, 3, 4, 8)
WINDOWS = 64


def table(seed: int, matrices: int = 24) -> tuple[list[Item], dict[tuple[str, int], np.ndarray]]:
    """Matrices whose costs fall by about five a bit, with noise of the windows half as large as the cost and more."""
    random = np.random.default_rng(seed)
    items, seen = [], {}
    for place in range(matrices):
        size, scale = int(random.choice([64, 128, 256])) * 64, random.lognormal(-4, 1)
        choices = []
        for bits in WIDTHS:
            level = scale * 5.0 ** (2 - bits)
            seen[f"m{place}", bits] = random.normal(level, 0.5 * level + 0.01 * scale, WINDOWS)
            choices.append(Choice("rtn", bits, 64, False, size * bits, float(seen[f"m{place}", bits].mean())))
        items.append(Item(f"m{place}", size, tuple(choices)))
    return items, seen


def after(items: list[Item], seen: dict[tuple[str, int], np.ndarray], counts: dict[tuple[str, int], int]) -> list[Item]:
    return [
        dataclasses.replace(
            item,
            choices=tuple(
                dataclasses.replace(c, value=float(seen[item.name, c.bits][: counts[item.name, c.bits]].mean()))
                for c in item.choices
            ),
        )
        for item in items
    ]


def swept(
    items: list[Item], seen: dict[tuple[str, int], np.ndarray], stop: Stop
) -> tuple[list[Item], dict[tuple[str, int], int]]:
    """The rounds of a sweep, on windows that are there already."""
    rounds = rounds_of(WINDOWS)
    counts = dict.fromkeys(seen, rounds[0])
    for end in rounds[1:]:
        known = after(items, seen, counts)
        windows = {
            (item.name, choice): seen[item.name, choice.bits][: counts[item.name, choice.bits]].tolist()
            for item in known
            for choice in item.choices
        }
        still = {(name, choice.bits) for name, choice in stop.open_choices(known, windows, WINDOWS)}
        if not still:
            break
        counts |= dict.fromkeys(still, end)
    return after(items, seen, counts), counts


def bits_of(items: list[Item], budget: float) -> dict[str, int]:
    return {name: choice.bits for name, choice in solve_milp(items, budget).choices.items()}


def test_rounds_grow_by_half_and_end_with_the_text() -> None:
    assert rounds_of(64) == [4, 8, 12, 16, 24, 36, 52, 64]
    assert rounds_of(3) == [3]
    assert rounds_of(4) == [4]


@pytest.mark.parametrize("seed", range(6))
def test_stopped_sweeps_decide_as_whole_ones_do(seed: int) -> None:
    items, seen = table(seed)
    budgets = (2.75, 3.5, 4.5)
    stopped, counts = swept(items, seen, Stop(0.33, budgets))
    assert all(bits_of(stopped, budget) == bits_of(items, budget) for budget in budgets)
    assert sum(counts.values()) < 0.85 * WINDOWS * len(counts)


def test_a_rule_that_stops_at_once_would_decide_otherwise() -> None:
    """The planted tables are hard enough: the first windows alone give other plans."""
    wrong = 0
    for seed in range(6):
        items, seen = table(seed)
        hasty = after(items, seen, dict.fromkeys(seen, FEWEST))
        wrong += bits_of(hasty, 3.5) != bits_of(items, 3.5)
    assert wrong >= 4


def test_the_rule_without_budgets_is_the_standard_error_against_the_difference() -> None:
    random = np.random.default_rng(0)
    for mean in (0.0, 0.002, 0.1):
        part = random.normal(mean, 0.03, 20)
        error = part.std(ddof=1) * np.sqrt(1 / 20 - 1 / 80)
        share = error / max(abs(part.mean()), 0.001)
        if share < 0.99:
            assert Stop(float(share) * 1.01).is_near(part.tolist(), 80)
        if share < 1:
            assert not Stop(float(share) * 0.99).is_near(part.tolist(), 80)
    assert Stop(1e-6).is_near([0.1, -0.1], 2)
    assert not Stop(1.0).is_near([0.5], 2)


@pytest.mark.parametrize("seed", range(4))
def test_no_optimal_plan_holds_what_the_gap_rules_out(seed: int) -> None:
    """Fixing by reduced costs, against the solver's proven optimum."""
    items, _ = table(seed)
    for budget in (2.5, 3.1, 4.2):
        price, gap = price_and_gap(items, budget)
        best = solve_milp(items, budget, relative_gap=0.0).choices
        for item in items:
            priced = [choice.value + price * choice.size for choice in item.choices]
            assert best[item.name].value + price * best[item.name].size <= min(priced) + gap + 1e-9
