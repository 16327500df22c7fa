"""From a table to a plan and back: what a plan says is what was solved, on what, for which model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from workbench.allocation.build import build_plan, with_result
from workbench.allocation.plan import check_against, dumps, parse, read_plan, schemes, stored_bits, to_document
from workbench.allocation.solve import chosen, read_items, restrict, solve_lagrangian, solve_milp
from workbench.errors import WorkbenchError

SHAPES = {f"blocks.{i}.{role}.weight": shape for i in (0, 1) for role, shape in (("up", [96, 64]), ("down", [64, 96]))}
MATRICES = [{"name": name, "shape": shape} for name, shape in SHAPES.items()]
FIRST, LAST = "blocks.0.up.weight", "blocks.1.down.weight"
Cells = dict[str, Any]


@pytest.fixture
def cells(make_rows: Callable[..., Any], identity: dict[str, Any]) -> Cells:
    values: dict[str, dict[int, float | None]] = {
        name: {2: 0.4 / (i + 1), 3: 0.1 / (i + 1), 4: 0.02, 8: -0.001} for i, name in enumerate(SHAPES)
    }
    values[LAST][2] = None
    return {
        "identity": identity,
        "measure": "loss",
        "by": "isolated",
        "options": {"clip": 0.9},
        "calibration": {
            "corpus": "/home/me/secret/novel.txt",
            "text_sha256": "4" * 64,
            "token_ids_sha256": "5" * 64,
            "tokens": 8192,
            "window": 256,
        },
        "cells": make_rows(values, SHAPES),
    }


def build(cells: Cells, identity: dict[str, Any], budget: float = 3.6, **keywords: Any):
    items = restrict(read_items(cells["cells"]), locks={FIRST: 4})
    solved = solve_milp(items, budget)
    facts = {"identity": identity, "matrices": MATRICES, "requested": budget, **keywords}
    return solved, build_plan(solved, cells, **facts)


def test_the_plan_says_what_was_solved(cells: Cells, identity: dict[str, Any]) -> None:
    made = datetime(2026, 11, 23, 14, tzinfo=UTC)
    solved, plan = build(cells, identity, created=made, excluded={"head.weight": "the head"}, provenance={"tool": "t"})
    assert {name: tensor.bits for name, tensor in plan.tensors.items()} == {
        n: c.bits for n, c in solved.choices.items()
    }
    assert stored_bits(plan) == solved.stored_bits == plan.budget.solved
    assert plan.created == "2026-11-23T14:00:00Z"
    assert plan.solver is not None
    assert plan.solver.locks == {FIRST: 4}
    assert plan.solver.objective == "sum of isolated loss"
    assert plan.solver.model_extra == {"left_out": [[LAST, 2]]}
    assert (plan.solver.name, plan.solver.status, plan.solver.mip_gap) == (
        "scipy.milp",
        "optimal",
        pytest.approx(0, abs=1e-9),
    )
    assert plan.result is not None
    assert plan.result.additive_prediction is not None
    assert plan.result.additive_prediction.delta_loss == pytest.approx(solved.value)
    row = next(r for r in cells["cells"] if r["matrix"] == LAST and r["bits"] == plan.tensors[LAST].bits)
    measured = plan.tensors[LAST].measured
    assert measured is not None
    assert (measured.delta_loss, measured.se, measured.n_tokens) == (row["value"], row["standard_error"], 8192)
    assert {scheme.options["clip"] for scheme in schemes(plan).values()} == {0.9}
    assert plan.excluded == {"head.weight": "the head"}


def test_the_plan_goes_out_and_comes_back(cells: Cells, identity: dict[str, Any]) -> None:
    _, plan = build(cells, identity)
    again = parse(dumps(plan).encode())
    assert dumps(again) == dumps(plan)
    check_against(again, MATRICES, identity)
    assert list(again.tensors) == list(SHAPES)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("demo", "demo"),
        ("owner/name", "owner/name"),
        ("/home/me/models/llama", "llama"),
        ("C:\\models\\llama", "llama"),
        ("C:/llama", "llama"),
        ("./llama", "llama"),
        ("~/llama/", "llama"),
    ],
)
def test_no_path_of_this_machine_leaves_in_a_plan(
    cells: Cells, identity: dict[str, Any], given: str, written: str
) -> None:
    _, plan = build(cells, identity | {"id": given})
    assert plan.model.id == written
    assert plan.calibration is not None
    assert plan.calibration.corpus == "novel.txt"
    assert "/home/me" not in dumps(plan)


@pytest.mark.parametrize("by", ["spared", "second-order", None])
def test_what_was_not_measured_alone_is_not_called_measured(
    cells: Cells, identity: dict[str, Any], by: str | None
) -> None:
    _, plan = build(cells | {"by": by}, identity)
    assert all(tensor.measured is None for tensor in plan.tensors.values())
    assert (plan.result is None) == (by != "second-order")  # what sums to the rise of the loss still predicts it
    assert plan.solver is not None
    assert plan.solver.objective == (f"sum of {by} loss" if by else "sum of loss")


def test_a_table_of_another_model_is_refused(cells: Cells, identity: dict[str, Any]) -> None:
    with pytest.raises(
        WorkbenchError, match="the sensitivity table is for another model, 'golden': its weights_sha256"
    ):
        build(cells, identity | {"weights_sha256": "9" * 64})
    with pytest.raises(WorkbenchError, match=r"a matrix that the model does not have: 'blocks\.1\.down\.weight'"):
        build(cells, identity, matrices=MATRICES[:-1])
    with pytest.raises(WorkbenchError, match="lacks 1 of the model's 5 matrices, first 'more'"):
        build(cells, identity, matrices=[*MATRICES, {"name": "more", "shape": [8, 64]}])


def test_a_table_whose_sizes_are_not_those_of_its_scheme_is_refused(cells: Cells, identity: dict[str, Any]) -> None:
    cells["cells"] = [row | {"stored_bits": row["stored_bits"] / 2} for row in cells["cells"]]
    with pytest.raises(WorkbenchError, match=r"storage_bits is \d+, but 6144 weights under 'rtn'"):
        build(cells, identity, budget=2.0)


def test_a_plan_by_hand_and_one_by_price(cells: Cells, identity: dict[str, Any]) -> None:
    items = read_items(cells["cells"])
    facts: dict[str, Any] = {"identity": identity, "matrices": MATRICES, "requested": 4.5}
    by_hand = build_plan(chosen(items, dict.fromkeys(SHAPES, 3)), cells, **facts)
    assert by_hand.defaults is not None
    assert (by_hand.defaults.bits, by_hand.defaults.method) == (3, "rtn")
    assert by_hand.solver is not None
    assert (by_hand.solver.status, by_hand.solver.bound) == ("by hand", None)
    by_price = build_plan(solve_lagrangian(items, 4.5), cells, **facts)
    assert by_price.solver is not None
    assert by_price.solver.name == "lagrangian"
    assert by_price.solver.bound is not None


def test_what_was_measured_is_added_to_the_plan(cells: Cells, identity: dict[str, Any]) -> None:
    _, plan = build(cells, identity)
    evaluation = {
        "perplexity": 10.0,
        "standard_error": 0.02,
        "delta_loss": 0.3,
        "reference": {"perplexity": 8.0},
        "text": {"corpus": "demo:evaluation", "text_sha256": "a" * 64, "token_ids_sha256": "b" * 64}
        | {"tokens": 16384, "window": 256},
        "kl_mean": 0.25,
        "kl_p99": 1.5,
        "top1_agreement": 0.8,
    }
    result = to_document(with_result(plan, evaluation))
    assert result["result"] == {
        "ppl_reference": 8.0,
        "ppl_quantised": 10.0,
        "ppl_se": pytest.approx(0.2),
        "kl_mean": 0.25,
        "kl_p99": 1.5,
        "top1_agreement": 0.8,
        "additive_prediction": {
            "delta_loss": plan.result.additive_prediction.delta_loss,  # type: ignore[union-attr]
            "measured": 0.3,
            "by": "isolated",
        },
    }
    assert (result["evaluation"]["n_tokens"], result["evaluation"]["seq_len"]) == (16384, 256)
    assert result["tensors"] == to_document(plan)["tensors"]
    overflowed = with_result(plan, evaluation | {"perplexity": None, "kl_mean": None})
    assert overflowed.result is not None
    assert overflowed.result.ppl_se is None
    assert read_plan(to_document(overflowed)) == overflowed
