"""Solvers against exhaustive search, budgets that are never broken, gaps that are never overstated."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.allocation.solve import (
    Choice,
    Item,
    Solution,
    budget_range,
    chosen,
    read_items,
    restrict,
    solve_lagrangian,
    solve_milp,
    uniform_solutions,
)
from workbench.errors import WorkbenchError

SOLVERS = (solve_lagrangian, solve_milp)


def make_item(name: str, numel: int, values: Sequence[float], widths: Sequence[int] = (2, 3, 4)) -> Item:
    """rtn, group 64, asymmetric: half a bit a weight of scales and zero points."""
    pairs = zip(widths, values, strict=True)
    return Item(name, numel, tuple(Choice("rtn", b, 64, False, numel * (2 * b + 1) // 2, v) for b, v in pairs))


def exhaustive(items: Sequence[Item], budget: float) -> float:
    """The least value of any plan within the budget, by trying all of them."""
    most = budget * sum(item.numel for item in items) + 1e-6
    plans = itertools.product(*(item.choices for item in items))
    return min(sum(c.value for c in plan) for plan in plans if sum(c.size for c in plan) <= most)


sizes = st.sampled_from([64, 128, 192, 640, 4096])
noisy = st.lists(st.floats(-1, 10).map(lambda v: round(v, 6)), min_size=3, max_size=3)
tables = st.lists(st.tuples(sizes, noisy), min_size=4, max_size=4)
Rows = list[tuple[int, list[float]]]


def make_items(rows: Rows) -> tuple[Item, ...]:
    return tuple(make_item(f"m{i}", numel, values) for i, (numel, values) in enumerate(rows))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=tables, share=st.floats(0, 1))
def test_the_integer_program_finds_what_exhaustive_search_finds(rows: Rows, share: float) -> None:
    items = make_items(rows)
    budget = 2.5 + 2 * share
    best = exhaustive(items, budget)
    solved = solve_milp(items, budget)
    assert solved.stored_bits <= budget + 1e-9
    assert solved.value == pytest.approx(best, abs=1e-5 * (1 + abs(best)))
    assert solved.status == "optimal"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=tables, share=st.floats(0, 1))
def test_the_lagrangian_keeps_the_budget_and_its_stated_gap(rows: Rows, share: float) -> None:
    items = make_items(rows)
    budget = 2.5 + 2 * share
    best = exhaustive(items, budget)
    solved = solve_lagrangian(items, budget)
    assert solved.stored_bits <= budget + 1e-9
    assert solved.bound is not None
    assert solved.bound <= best + 1e-9 <= solved.value + 2e-9
    # The theory: prices lose at most what one matrix can gain.
    assert solved.value - best <= max(max(c.value for c in i.choices) - min(c.value for c in i.choices) for i in items)
    within = [uniform.value for uniform in uniform_solutions(items) if uniform.stored_bits <= budget]
    assert solved.value <= min(within) + 1e-9


def model_like(matrices: int, widths: Sequence[int], seed: int = 0) -> tuple[Item, ...]:
    """Shapes of a Llama, log-normal sensitivities, errors that fall fourfold a bit, with noise."""
    draw = np.random.default_rng(seed)
    shapes = itertools.cycle([4096 * 4096, 4096 * 1024, 4096 * 1024, 4096 * 4096] + [4096 * 14336] * 3)
    items = []
    for index, numel in zip(range(matrices), shapes, strict=False):
        scale = math.exp(draw.normal(0, 1.5)) * numel / 2e7
        values = [float(scale * 4.0**-bits * math.exp(draw.normal(0, 0.2))) for bits in widths]
        items.append(make_item(f"m{index}", numel, values, widths))
    return tuple(items)


@pytest.mark.parametrize("budget", [3.25, 4.25, 6.0])
def test_both_solvers_agree_on_a_model_of_ordinary_size(budget: float) -> None:
    items = model_like(224, (1, 2, 3, 4, 8, 16))
    fast, exact = solve_lagrangian(items, budget), solve_milp(items, budget, relative_gap=0.0)
    assert exact.status == "optimal"
    assert exact.gap == pytest.approx(0, abs=1e-6)
    assert fast.gap is not None
    assert (fast.value - exact.value) / exact.value <= fast.gap + 1e-9 < 2e-3
    assert max(fast.stored_bits, exact.stored_bits) <= budget + 1e-9


def test_the_lagrangian_follows_a_slider() -> None:
    items = model_like(224, (1, 2, 3, 4, 8, 16))

    def seconds() -> float:
        started = time.process_time()
        solve_lagrangian(items, 3.37)
        return time.process_time() - started

    # Measured 4 ms on an idle core; the checks of types that tests add and a busy machine take their share.
    assert min(seconds() for _ in range(7)) < 0.02


def test_values_of_very_different_size_do_not_blunt_the_integer_program() -> None:
    # Two bits cost a million times what the decision among the higher widths is about.
    items = tuple(make_item(f"m{i}", 64, (1e6, 1e-3 * (i + 1), 1e-4 * (i + 1)), (2, 3, 4)) for i in range(6))
    budget = 3.5 + 2 / 6
    assert solve_milp(items, budget).value == pytest.approx(exhaustive(items, budget), rel=1e-9)


def test_the_time_limit_leaves_a_plan_within_the_budget() -> None:
    items = model_like(224, (1, 2, 3, 4, 8, 16))
    stopped = solve_milp(items, 3.25, time_limit=0.0)
    assert stopped.status == "stopped early"
    assert stopped.choices == solve_lagrangian(items, 3.25).choices
    assert stopped.gap is not None
    assert 0 < stopped.gap < 1e-2


@pytest.mark.parametrize("solve", SOLVERS)
class TestEverySolver:
    def test_the_largest_budget_gives_everything_eight_bits(self, solve: Callable[..., Solution]) -> None:
        items = model_like(14, (2, 3, 4, 8))
        assert {choice.bits for choice in solve(items, 8.5).choices.values()} == {8}

    def test_the_smallest_budget_gives_everything_two(self, solve: Callable[..., Solution]) -> None:
        solved = solve(model_like(14, (2, 3, 4, 8)), 2.5)
        assert {choice.bits for choice in solved.choices.values()} == {2}
        assert solved.gap == 0

    @pytest.mark.parametrize("budget", [2.5, 3.5, 4.5])
    def test_like_layers_get_like_widths_where_the_budget_allows(
        self, solve: Callable[..., Solution], budget: float
    ) -> None:
        twins = tuple(make_item(f"m{i}", 4096, (1.0, 0.3, 0.1)) for i in range(4))
        assert len({choice.bits for choice in solve(twins, budget).choices.values()}) == 1

    def test_a_lock_is_kept_and_paid_for_by_the_others(self, solve: Callable[..., Solution]) -> None:
        items = tuple(make_item(f"m{i}", 4096, (1.0 / (i + 1), 0.3 / (i + 1), 0.1 / (i + 1))) for i in range(4))
        free = solve(items, 3.5)
        held = solve(restrict(items, locks={"m3": 4, "m0": 2}), 3.5)
        assert (held.choices["m3"].bits, held.choices["m0"].bits) == (4, 2)
        assert held.locks == {"m0": 2, "m3": 4}
        assert held.stored_bits <= 3.5
        assert held.value > free.value

    def test_fewer_bits_are_taken_where_they_measured_better(self, solve: Callable[..., Solution]) -> None:
        items = (make_item("odd", 64, (-0.5, 0.2, 0.1)), make_item("plain", 64, (0.5, 0.2, 0.1)))
        solved = solve(items, 4.5)
        assert {name: choice.bits for name, choice in solved.choices.items()} == {"odd": 2, "plain": 4}

    def test_a_solution_of_a_single_choice(self, solve: Callable[..., Solution]) -> None:
        solved = solve((make_item("only", 64, (0.0,), (4,)),), 4.5)
        assert (solved.value, solved.bound, solved.gap) == (0.0, 0.0, 0.0)

    def test_a_budget_computed_from_a_plan_gives_room_for_that_plan(self, solve: Callable[..., Solution]) -> None:
        items = model_like(7, (2, 3, 4, 8), seed=3)
        for target in uniform_solutions(items):
            assert solve(items, target.stored_bits).value <= target.value + 1e-12

    @pytest.mark.parametrize(
        ("budget", "sentence"),
        [
            (
                2.4,
                "a budget of 2.4 stored bits per weight is below the smallest that these choices allow; it should lie",
            ),
            (0.0, "a budget of 0 stored bits per weight is below the smallest"),
            (-1.0, "a budget of -1 stored bits"),
            (
                8.6,
                "a budget of 8.6 stored bits per weight is above the largest that these choices allow; it should lie",
            ),
            (float("nan"), "the budget has value nan; it should lie between 2.5 and 8.5 stored bits"),
            (float("inf"), "the budget has value inf; it should lie"),
        ],
    )
    def test_budgets_that_mean_nothing(self, solve: Callable[..., Solution], budget: float, sentence: str) -> None:
        with pytest.raises(WorkbenchError) as caught:
            solve(model_like(14, (2, 3, 4, 8)), budget)
        assert str(caught.value).startswith(sentence)
        assert "between 2.5 and 8.5" in str(caught.value)

    def test_locks_move_the_feasible_budgets(self, solve: Callable[..., Solution]) -> None:
        items = restrict(tuple(make_item(f"m{i}", 64, (3.0, 2.0, 1.0)) for i in range(4)), locks={"m0": 4})
        with pytest.raises(WorkbenchError, match=r"it should lie between 3 and 4\.5"):
            solve(items, 2.9)
        assert solve(items, 3.0).stored_bits == 3.0


def test_the_numbers_of_the_range_are_themselves_accepted() -> None:
    # 3 weights in 7 at one size more: 2.5 + 3/7 has no short decimal, so the shown number is rounded up.
    items = (make_item("a", 3 * 64, (2.0, 1.0), (3, 4)), make_item("b", 4 * 64, (2.0, 1.0), (2, 3)))
    low, high = budget_range(items)
    assert (low, high) == (math.ceil((2.5 + 3 / 7) * 1e4) / 1e4, math.ceil((3.5 + 3 / 7) * 1e4) / 1e4)
    assert {c.bits for c in solve_lagrangian(items, high).choices.values()} == {4, 3}
    assert solve_lagrangian(items, low).value == 4.0


def test_a_uniform_plan_is_taken_where_prices_and_steps_miss_it() -> None:
    # The small matrix gains most a bit, its four bits leave no room for the three that the large one needs.
    items = (make_item("small", 64, (8.0, 6.0, 2.0)), make_item("large", 256, (9.0, 1.0, 1.0)))
    solved = solve_lagrangian(items, 3.5)
    assert ({choice.bits for choice in solved.choices.values()}, solved.value) == ({3}, 7.0)


def test_uniform_plans_are_those_that_every_matrix_can_follow() -> None:
    items = (
        make_item("a", 64, (3.0, 2.0, 1.0)),
        make_item("b", 64, (3.0, 1.0), (2, 4)),
        make_item("c", 64, (9.0, 5.0, 4.0)),
    )
    assert [(s.stored_bits, s.value, s.status) for s in uniform_solutions(items)] == [
        (2.5, 15, "uniform"),
        (4.5, 6, "uniform"),
    ]
    locked = restrict(items, locks={"a": 3})
    assert [s.choices["a"].bits for s in uniform_solutions(locked)] == [3, 3]
    assert uniform_solutions(restrict(items, locks={"a": 2, "b": 2, "c": 2})) == []


def test_a_plan_set_by_hand() -> None:
    items = (make_item("a", 64, (3.0, 2.0, 1.0)), make_item("b", 192, (9.0, 5.0, 4.0)))
    mine = chosen(items, {"a": 4, "b": 2})
    assert (mine.value, mine.stored_bits, mine.status, mine.gap) == (10, 3.0, "by hand", None)
    with pytest.raises(WorkbenchError, match="no width is given for 'b'"):
        chosen(items, {"a": 4})
    with pytest.raises(WorkbenchError, match="the lock of 'b' has value 8; choose one of: 2, 3, 4"):
        chosen(items, {"a": 4, "b": 8})
    with pytest.raises(WorkbenchError, match="no matrix 'c'"):
        chosen(items, {"a": 4, "b": 2, "c": 2})


def test_choices_may_differ_in_group_size_as_well_as_in_width(make_rows: Callable[..., Any]) -> None:
    shapes = {"a": [8, 128], "b": [8, 128]}
    fine = make_rows({"a": {3: 0.2, 4: 0.1}, "b": {3: 0.9, 4: 0.5}}, shapes, group_size=32)
    coarse = make_rows({"a": {3: 0.3, 4: 0.15}, "b": {3: 1.2, 4: 0.6}}, shapes, group_size=128)
    items = read_items(fine + coarse)
    for budget in (3.25, 3.7, 4.1, 4.5, 5.0):
        assert solve_milp(items, budget).value == pytest.approx(exhaustive(items, budget), rel=1e-9)
    assert [round(s.stored_bits, 2) for s in uniform_solutions(items)] == [3.25, 4.0, 4.25, 5.0]
