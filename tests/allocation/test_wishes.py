"""Ties, budgets in bytes, joined tables and the rule of thumb: against exhaustive search and arithmetic by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from workbench.allocation.budgets import Request, bits_request, file_request, read_size
from workbench.allocation.cells import join
from workbench.allocation.items import Choice, Item
from workbench.allocation.plan import dumps, parse, to_document
from workbench.allocation.planning import Wish, items_of, solve, solved_plan, uniform_plans
from workbench.allocation.rules import by_score
from workbench.allocation.solution import Table, solution
from workbench.allocation.swaps import picks_of, swaps
from workbench.allocation.ties import fused_groups, read_ties, tie, untie
from workbench.errors import WorkbenchError

WIDTHS = (2, 3, 4)
NAMES = ("q.weight", "k.weight", "v.weight", "o.weight")
SHAPES = {"q.weight": (64, 64), "k.weight": (32, 64), "v.weight": (32, 64), "o.weight": (64, 64)}
SITES = {"q.weight": "q", "k.weight": "q", "v.weight": "q", "o.weight": "o"}
MATRICES = [
    {"name": name, "site": SITES[name], "shape": list(SHAPES[name]), "parameters": SHAPES[name][0] * SHAPES[name][1]}
    for name in NAMES
]


def inspected(identity: dict[str, Any]) -> dict[str, Any]:
    sizes = [{"bits": 16, "matrix_bytes": 24576, "total_bytes": 24576 + 1000}]
    return {"model": identity, "matrices": MATRICES, "skipped": [], "sizes": sizes}


def document(make_rows: Callable[..., Any], identity: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    values = {name: {bits: float(random.exponential(4.0**-bits)) for bits in WIDTHS} for name in NAMES}
    return {
        "identity": identity,
        "measure": "loss",
        "by": "isolated",
        "options": {},
        "calibration": {"corpus": "c", "tokens": 64, "window": 8},
        "cells": make_rows(values, SHAPES),
    }


def test_fused_matrices_are_those_that_read_one_input() -> None:
    assert fused_groups(MATRICES) == (("q.weight", "k.weight", "v.weight"),)
    assert read_ties(["q.weight, o.weight"], MATRICES) == (("q.weight", "o.weight"),)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["q.weight,nope"], "there is no matrix 'nope' to tie"),
        (["q.weight"], "names 1 matrices"),
        (["fused", "q.weight,o.weight"], "'q.weight' stands in two ties"),
    ],
)
def test_bad_ties_are_refused_in_one_sentence(words: list[str], told: str) -> None:
    with pytest.raises(WorkbenchError, match=told):
        read_ties(words, MATRICES)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [2.75, 3.2, 4.0])
def test_the_tied_plan_is_the_best_of_all_that_keep_the_tie(
    make_rows: Callable[..., Any], identity: dict[str, Any], seed: int, budget: float
) -> None:
    cells = document(make_rows, identity, seed)
    wish = Wish(bits_request(budget), ties=fused_groups(MATRICES))
    items = items_of(cells, MATRICES, wish)
    found = solve(items, wish)
    assert len({found.choices[name].bits for name in NAMES[:3]}) == 1
    total = sum(item.numel for item in items)

    def value(widths: tuple[int, ...]) -> float:
        picked = [next(c for c in item.choices if c.bits == b) for item, b in zip(items, widths, strict=True)]
        return sum(c.value for c in picked) if sum(c.size for c in picked) <= budget * total else float("inf")

    every = list(itertools.product(WIDTHS, repeat=4))
    assert found.value == pytest.approx(min(value(w) for w in every if len(set(w[:3])) == 1))
    free = min(value(widths) for widths in every)
    assert found.tie_price == pytest.approx(found.value - free, abs=1e-12)
    assert found.tie_price is not None
    assert found.tie_price >= 0


def test_ties_and_their_price_stand_in_the_plan(make_rows: Callable[..., Any], identity: dict[str, Any]) -> None:
    cells = document(make_rows, identity)
    wish = Wish(bits_request(3.3), ties=fused_groups(MATRICES), locks={"k.weight": 3})
    plan = solved_plan(cells, inspected(identity), wish)
    assert plan.solver is not None
    assert plan.solver.ties == (("q.weight", "k.weight", "v.weight"),)
    assert plan.solver.locks == {"k.weight": 3}
    assert {plan.tensors[name].bits for name in NAMES[:3]} == {3}
    assert parse(dumps(plan).encode()) == plan


def test_locks_that_tear_a_tie_apart_are_refused(make_rows: Callable[..., Any], identity: dict[str, Any]) -> None:
    wish = Wish(bits_request(3.0), ties=fused_groups(MATRICES), locks={"k.weight": 3, "v.weight": 4})
    with pytest.raises(WorkbenchError, match="have no width in common"):
        solved_plan(document(make_rows, identity), inspected(identity), wish)


def test_two_identical_layers_get_equal_bits() -> None:
    choices = tuple(Choice("rtn", b, 64, False, 64 * (2 * b + 1) // 2, 4.0**-b) for b in WIDTHS)
    items = [Item(f"layers.{place}", 64, choices) for place in range(2)]
    found = solve(items, Wish(bits_request(3.5)))
    assert {choice.bits for choice in found.choices.values()} == {3}


def test_a_file_of_so_many_bytes_counts_what_no_plan_touches(
    make_rows: Callable[..., Any], identity: dict[str, Any]
) -> None:
    request = file_request("6.0KB", inspected(identity))
    assert request.bits == pytest.approx(8 * (6000 - 1000) / 12288)
    plan = solved_plan(document(make_rows, identity), inspected(identity), Wish(request))
    assert plan.budget.kind == "file_bytes"
    stored = sum(tensor.storage_bits for tensor in plan.tensors.values()) / 8
    assert plan.budget.solved == pytest.approx(stored + 1000)
    assert stored + 1000 <= 6000
    assert parse(dumps(plan).encode()) == plan


@pytest.mark.parametrize(("text", "size"), [("450KB", 450_000), ("1.5 MiB", 1.5 * 2**20), ("700", 700), ("2gb", 2e9)])
def test_sizes_are_read_as_people_write_them(text: str, size: float) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-3KB", "3 parsecs", "nan", "1e9"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(WorkbenchError, match="is not understood; write a number with KB"):
        read_size(text)


def test_a_file_smaller_than_what_stays_is_refused(identity: dict[str, Any]) -> None:
    with pytest.raises(WorkbenchError, match="embeddings and norms alone take 1,000 bytes"):
        file_request("1KB", inspected(identity))


def test_a_joined_table_mixes_quantizers_and_keeps_each_ones_options(
    make_rows: Callable[..., Any], identity: dict[str, Any]
) -> None:
    first, second = document(make_rows, identity, 0), document(make_rows, identity, 1)
    for row in second["cells"]:
        row["quantizer"] = "gptq"
    second["options"] = {"damp": 0.02}
    cells = join([first, second])
    plan = solved_plan(cells, inspected(identity), Wish(bits_request(3.0)))
    assert {tensor.method for tensor in plan.tensors.values()} == {"rtn", "gptq"}
    for tensor in plan.tensors.values():
        assert dict(tensor.method_options) == ({"damp": 0.02} if tensor.method == "gptq" else {})
    single = [solved_plan(one, inspected(identity), Wish(bits_request(3.0))) for one in (first, second)]
    assert plan.solver is not None
    assert all(plan.solver.value <= one.solver.value + 1e-12 for one in single if one.solver)  # type: ignore[operator]
    with pytest.raises(WorkbenchError, match="different texts cannot be joined"):
        join([first, {**second, "calibration": {"corpus": "other"}}])


def test_uniform_plans_are_those_within_the_budget(make_rows: Callable[..., Any], identity: dict[str, Any]) -> None:
    plans = uniform_plans(document(make_rows, identity), inspected(identity), Wish(bits_request(3.9)))
    assert [next(iter(plan.tensors.values())).bits for plan in plans] == [2, 3]


def test_the_rule_raises_the_highest_scores_first() -> None:
    items = [
        Item(name, 64, tuple(Choice("rtn", b, 64, False, 64 * (2 * b + 1) // 2, 4.0**-b) for b in WIDTHS))
        for name in "abc"
    ]
    found = by_score(items, {"a": 0.1, "b": 3.0, "c": 1.0}, budget=3.2)
    assert {name: choice.bits for name, choice in found.choices.items()} == {"a": 2, "b": 3, "c": 3}
    assert found.stored_bits <= 3.2


@pytest.mark.parametrize("seed", range(4))
def test_swaps_keep_the_budget_and_come_in_the_order_of_their_sums(seed: int) -> None:
    random = np.random.default_rng(seed)
    items = [
        Item(f"m{place}", 64, tuple(Choice("rtn", b, 64, False, 64 * b, float(random.random())) for b in WIDTHS))
        for place in range(5)
    ]
    wish = Wish(bits_request(3.0))
    picks = picks_of(items, dict(solve(items, wish).choices))
    found = swaps(items, picks, 3.0, 50)
    table = Table(items)
    assert all(solution(items, other, status="x").stored_bits <= 3.0 + 1e-9 for other in found)
    assert all(1 <= int((other != picks).sum()) <= 2 for other in found)
    values = [table.value(other) for other in found]
    assert values == sorted(values)
    assert min(values) >= table.value(picks) - 1e-12  # around an optimum no neighbour is better by its sum
    assert len({tuple(other) for other in found}) == len(found)


def test_untying_gives_every_member_its_own_size(make_rows: Callable[..., Any], identity: dict[str, Any]) -> None:
    items = items_of(document(make_rows, identity), MATRICES, Wish(bits_request(3.0)))
    tied = tie(items, fused_groups(MATRICES))
    assert len(tied) == 2
    assert sum(item.numel for item in tied) == sum(item.numel for item in items)
    found = untie(solution(tied, [1, 0], status="x"), tied)
    assert [found.choices[name].bits for name in NAMES] == [3, 3, 3, 2]
    assert found.stored_bits == pytest.approx(replace(found).stored_bits)
    assert sum(choice.size for choice in found.choices.values()) == sum(
        item.choices[place].size for item, place in zip(tied, [1, 0], strict=True)
    )


def test_a_request_in_bits_stays_as_it_was() -> None:
    assert bits_request(3.25) == Request("bits_per_weight", 3.25, 3.25)


def test_a_plan_of_bits_says_nothing_of_other_bytes(make_rows: Callable[..., Any], identity: dict[str, Any]) -> None:
    plan = solved_plan(document(make_rows, identity), inspected(identity), Wish(bits_request(3.0)))
    assert to_document(plan)["budget"]["other_bytes"] is None
