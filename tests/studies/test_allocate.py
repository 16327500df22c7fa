"""Decisions are measured: candidates against the model itself, swaps on costs that do not add up, ceilings kept."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from workbench.allocation.budgets import bits_request
from workbench.allocation.plan import Plan, read_plan, stored_bits, to_document
from workbench.allocation.planning import Wish, solved_plan
from workbench.allocation.ties import fused_groups, read_ties
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.progress import Progress, run
from workbench.studies import Context, allocate, front, guarded, inspection, sensitivity
from workbench.studies.around import WINDOWS, revalued, values_around
from workbench.studies.candidates import CLEARLY, Candidate, take
from workbench.studies.choice import quantize_assignment, read_assignment
from workbench.studies.plan_meter import PlanMeter, Reading
from workbench.studies.reference import reference
from workbench.studies.refine import Board, refine
from workbench.studies.single_changes import spread_order
from workbench.studies.solved import solved_candidates
from workbench.studies.texts import calibration_windows, windows_after

SIZES: dict[str, Any] = {"tokens": 256, "window": 32}
WIDTHS = (2, 4)


@pytest.fixture(scope="module")
def context() -> Context:
    """One store for the whole file: cells are measured once."""
    return Context()


@pytest.fixture
def asked(texts: dict[str, str], context: Context) -> dict[str, Any]:
    return {
        "bits": WIDTHS,
        "ways": ("isolated",),
        "calibration": texts["calibration"],
        "refine_seconds": 0.0,
        "context": context,
        **SIZES,
    }


def measured_by_hand(loaded: LoadedModel, plan: dict[str, Any], ids: torch.Tensor, context: Context) -> float:
    """Mean loss of a plan in nats a token, one plain forward pass a window."""
    assignment = read_assignment(loaded, None, plan)
    assert assignment is not None
    weights = run(quantize_assignment(loaded, assignment, None, context)).dense()
    losses = []
    with overlay(loaded.model, weights), torch.no_grad():
        for window in ids:
            logits = loaded.model(window[None]).logits[0]
            losses.append(cross_entropy(logits[:-1], window[1:]).item())
    return sum(losses) / len(losses)


def test_candidates_are_measured_on_unseen_text_and_the_best_is_taken(
    tiny_llama: LoadedModel, asked: dict[str, Any], texts: dict[str, str], context: Context, finish: Callable[..., Any]
) -> None:
    document = finish(allocate(tiny_llama, budget=3.6, **asked)).document
    unseen = windows_after(tiny_llama, texts["calibration"], 256, 8192, 32).ids
    full = sum(
        cross_entropy(tiny_llama.model(window[None]).logits[0, :-1], window[1:]).item() for window in unseen
    ) / len(unseen)
    assert document["text"]["unseen"]
    assert any(one["label"].startswith("uniform") for one in document["candidates"])
    for one in document["candidates"]:
        assert one["stored_bits"] <= 3.6 + 1e-9
        by_hand = measured_by_hand(tiny_llama, one["plan"], unseen, context) - full
        assert one["delta_loss"] == pytest.approx(by_hand, abs=2e-5)
    taken = next(one for one in document["candidates"] if one["taken"])
    assert document["plan"]["tensors"] == taken["plan"]["tensors"]
    uniform = [one for one in document["candidates"] if one["label"].startswith("uniform")]
    best = min(uniform, key=lambda one: one["delta_loss"])
    if taken not in uniform:
        assert best["over_taken"] > CLEARLY * best["over_taken_standard_error"]


def test_a_second_budget_measures_no_cell_again(
    tiny_llama: LoadedModel, asked: dict[str, Any], texts: dict[str, str], context: Context
) -> None:
    run(allocate(tiny_llama, budget=3.6, **asked))
    notes: list[str] = []
    run(allocate(tiny_llama, budget=3.0, **asked), lambda progress: notes.append(progress.note))
    again = run(sensitivity(tiny_llama, bits=WIDTHS, calibration=texts["calibration"], context=context, **SIZES))
    assert again.document["computed"] == 0


def test_ties_limits_and_file_sizes_reach_the_plan(tiny_llama: LoadedModel, asked: dict[str, Any]) -> None:
    found = run(allocate(tiny_llama, budget=3.6, ties=("fused",), **asked)).document["plan"]
    for group in found["solver"]["ties"]:
        assert len({found["tensors"][name]["bits"] for name in group}) == 1
    plan = run(allocate(tiny_llama, file_bytes="70KB", **asked)).document["plan"]
    assert plan["budget"]["kind"] == "file_bytes"
    assert plan["budget"]["solved"] <= 70_000
    high = run(allocate(tiny_llama, budget=4.5142, floor=4, **asked)).document["plan"]
    assert {tensor["bits"] for tensor in high["tensors"].values()} == {4}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "one of the two; neither was given"),
        ({"budget": 3.0, "file_bytes": "60KB"}, "both were given"),
        ({"budget": 1.0}, "below the smallest that these choices allow; it should lie between 2.5"),
        ({"budget": 3.0, "locks": {"nope": 2}}, "no matrix 'nope' to lock"),
        ({"budget": 3.0, "quantizers": ("billm",)}, "'billm' has one width of its own"),
        ({"budget": 3.0, "floor": 4}, "below the smallest that these choices allow; it should lie between 4.5"),
        ({"budget": 9.0}, "above the largest that these choices allow"),
        ({"budget": 2.0, "quantizers": ("gptq",)}, "codes and scales of these choices alone take 2.5"),
        ({"budget": 3.0, "locks": {"model.layers.0.mlp.down_proj.weight": 3}}, "choose one of: 2, 4"),
        (
            {"budget": 2.6, "locks": dict.fromkeys((f"model.layers.{b}.mlp.down_proj.weight" for b in (0, 1)), 4)},
            "below the smallest that these choices allow; it should lie between 3 and",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    tiny_llama: LoadedModel, asked: dict[str, Any], wrong: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[allocate.__module__]
    monkeypatch.setattr(module, "sensitivity", lambda *_, **__: pytest.fail("it was measured"))
    with pytest.raises(WorkbenchError, match=told):
        run(allocate(tiny_llama, **{**asked, **wrong}))


def test_a_guarded_plan_below_all_choices_is_refused_before_anything_is_measured(
    tiny_llama: LoadedModel, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[allocate.__module__]
    monkeypatch.setattr(module, "sensitivity", lambda *_, **__: pytest.fail("it was measured"))
    known = {name: asked[name] for name in asked.keys() & inspect.signature(guarded).parameters.keys()}
    with pytest.raises(WorkbenchError, match=r"a budget of 2 stored bits is below the smallest .*, 2\.5"):
        run(guarded(tiny_llama, max_kl=1.0, budget=2.0, **known))
    with pytest.raises(WorkbenchError, match="no matrix 'nope' to lock"):
        run(guarded(tiny_llama, max_kl=1.0, locks={"nope": 2}, **known))


def test_cells_without_a_text_give_the_plan_and_say_that_nothing_was_measured(
    tiny_llama: LoadedModel, asked: dict[str, Any], texts: dict[str, str], context: Context
) -> None:
    cells = run(sensitivity(tiny_llama, bits=WIDTHS, calibration=texts["calibration"], context=context, **SIZES))
    document = run(allocate(tiny_llama, budget=3.6, bits=WIDTHS, cells=cells.document)).document
    assert "--calibration" in document["note"]
    assert document["candidates"] == []


class Landscape(PlanMeter):
    """Costs of plans by a formula in which two matrices only pay when both have 4 bits: sums are wrong there."""

    def __init__(self, pair: tuple[str, ...]) -> None:
        self.pair = pair
        self.asked = 0

    def read(self, plan: Plan, note: str):
        """The cost in every one of four windows, with the same noise for all plans."""
        self.asked += 1
        yield Progress(0, 1, note)
        together = all(plan.tensors[name].bits == 4 for name in self.pair)
        losses = torch.tensor([2.0, 2.1, 1.9, 2.2], dtype=torch.float64) - (1.0 if together else 0.0)
        return Reading(losses[:, None], 0.0)


@pytest.fixture
def board(tiny_llama: LoadedModel, texts: dict[str, str], context: Context) -> Board:
    inspected = run(inspection(tiny_llama)).document
    spec: dict[str, Any] = {"bits": WIDTHS, "calibration": texts["calibration"], "context": context, **SIZES}
    cells = run(sensitivity(tiny_llama, **spec)).document
    return Board(cells, inspected, Wish(bits_request(3.0), widths=WIDTHS))


def meter_of(loaded: LoadedModel, texts: dict[str, str], context: Context) -> PlanMeter:
    windows = calibration_windows(loaded, texts["calibration"], SIZES["tokens"], SIZES["window"])
    return PlanMeter(run(reference(loaded, windows)), windows, context)


def test_swaps_find_what_sums_cannot_see(board: Board) -> None:
    plan = solved_plan(board.cells, board.inspected, board.wish)
    raised = [name for name, tensor in plan.tensors.items() if tensor.bits == 4]
    low = [name for name, tensor in plan.tensors.items() if tensor.bits == 2]
    same = [name for name in low if plan.tensors[name].numel == plan.tensors[raised[0]].numel] or low
    meter = Landscape((raised[0], same[0]))
    found = run(refine(board, plan, meter, seconds=60.0, patience=200, around=False))
    assert found.swaps
    assert {found.plan.tensors[name].bits for name in meter.pair} == {4}
    assert stored_bits(found.plan) <= 3.0 + 1e-9
    assert found.ended == "no swap helps"
    assert found.measured == meter.asked - 1


@pytest.mark.parametrize("ties", [(), ("fused",)])
def test_costs_around_a_plan_are_what_a_whole_run_gives(
    tiny_llama: LoadedModel, board: Board, texts: dict[str, str], context: Context, ties: tuple[str, ...]
) -> None:
    groups = read_ties(ties, board.inspected["matrices"])
    board = Board(board.cells, board.inspected, replace(board.wish, ties=groups))
    plan = solved_plan(board.cells, board.inspected, board.wish)
    meter = meter_of(tiny_llama, texts, context)
    values = run(values_around(meter, plan, board.single, board.scheme_of))
    items = revalued(board.items, values)
    windows = meter.full.windows.ids[spread_order(len(meter.full.windows.ids))][:WINDOWS]
    picks = board.start(plan)
    assert picks is not None
    before = measured_by_hand(tiny_llama, to_document(plan), windows, context)
    for place in (0, len(items) - 1):
        other = picks.copy()
        other[place] = 1 - picks[place]
        by_hand = measured_by_hand(tiny_llama, to_document(board.plan(other)), windows, context) - before
        assert items[place].choices[picks[place]].value == 0.0
        parts = len(getattr(items[place], "parts", (0,)))  # of tied ones each is changed alone
        assert items[place].choices[other[place]].value == pytest.approx(by_hand, abs=2e-5 if parts == 1 else 0.02)


def test_swaps_around_a_plan_are_measured_and_kept_where_they_help(
    tiny_llama: LoadedModel, board: Board, texts: dict[str, str], context: Context
) -> None:
    meter = meter_of(tiny_llama, texts, context)
    start = board.plan(np.array([len(item.choices) - 1 if not place else 0 for place, item in enumerate(board.items)]))

    def interrupt(progress: Progress) -> None:
        if progress.note.startswith("swap 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(refine(board, start, meter, seconds=60.0), interrupt)
    notes: list[str] = []
    found = run(refine(board, start, meter, seconds=60.0), lambda progress: notes.append(progress.note))
    assert not any(note.startswith("around") for note in notes[: notes.index("swap 1: 0 taken")])  # kept from before
    assert stored_bits(found.plan) <= 3.0 + 1e-9
    assert found.reading.over(run(meter.read(start, "start"))).difference == pytest.approx(
        sum(swap["difference"] for swap in found.swaps), abs=1e-9
    )
    assert all(swap["difference"] < -swap["standard_error"] for swap in found.swaps)
    again = run(refine(board, start, meter, seconds=60.0))
    assert (again.plan.tensors, again.measured) == (found.plan.tensors, found.measured)


def test_a_search_around_a_plan_that_takes_too_long_goes_by_the_sums(board: Board) -> None:
    def endless():
        while True:
            yield Progress(0, 1, "looking")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.studies.refine.values_around", lambda *_: endless())
        plan = solved_plan(board.cells, board.inspected, board.wish)
        found = run(refine(board, plan, Landscape((next(iter(plan.tensors)),) * 2), seconds=0.3))
    assert found.measured > 0


def reading(*losses: float) -> Reading:
    return Reading(torch.tensor(losses, dtype=torch.float64)[:, None], 0.0)


@pytest.mark.parametrize(
    ("free", "tied", "taken", "told"),
    [
        ((1.0, 1.1, 0.9), (1.01, 1.15, 0.88), "tied", "free is not better by a standard error, -0.0133 ± 0.0203 nats"),
        ((1.0, 1.1, 0.9), (1.1, 1.2, 1.01), "free", "free: -1.0000 ± 0.0577 nats against even"),
        ((1.99, 2.1, 1.9), (2.0, 2.0, 2.0), "even", "free is not clearly better, -0.0033 ± 0.0578 nats against even"),
    ],
)
def test_the_simpler_plan_stands_where_none_is_clearly_better(free, tied, taken, told, board: Board) -> None:
    plan = solved_plan(board.cells, board.inspected, board.wish)
    candidates = [
        Candidate("even", True, plan, unseen=reading(2.0, 2.0, 2.0)),
        Candidate("free", False, plan, unseen=reading(*free)),
        Candidate("tied", False, plan, unseen=reading(*tied), tied=True),
    ]
    found, reason = take(candidates)
    assert found.label == taken
    assert told in reason


def test_candidates_stand_between_the_tables_and_with_fused_matrices_alike(
    tiny_llama: LoadedModel, texts: dict[str, str], context: Context, board: Board
) -> None:
    spec: dict[str, Any] = {"bits": WIDTHS, "calibration": texts["calibration"], "context": context, **SIZES}
    shares = run(sensitivity(tiny_llama, by="joint-path", **spec)).document
    found = solved_candidates([board.cells, shares], board.inspected, board.wish)
    between = next(one for one in found if one.label.endswith("50% of the first"))
    values = [{row["matrix"]: row["value"] for row in table["cells"] if row["bits"] == bits}
              for table in (board.cells, shares) for bits in WIDTHS]  # fmt: skip
    by_hand = sum(
        (values[WIDTHS.index(tensor.bits)][name] + values[2 + WIDTHS.index(tensor.bits)][name]) / 2
        for name, tensor in between.plan.tensors.items()
    )
    assert between.predicted == pytest.approx(by_hand, abs=1e-9)
    alike = [one for one in found if one.tied]
    assert alike
    for one in alike:
        for group in fused_groups(board.inspected["matrices"]):
            assert len({one.plan.tensors[name].bits for name in group}) == 1
    groups = fused_groups(board.inspected["matrices"])
    locks = {groups[0][0]: 2, groups[0][1]: 4}
    assert not any(
        one.tied for one in solved_candidates([board.cells], board.inspected, replace(board.wish, locks=locks))
    )


def test_without_time_the_plan_stays_as_it_was(board: Board) -> None:
    plan = solved_plan(board.cells, board.inspected, board.wish)
    found = run(refine(board, plan, Landscape((next(iter(plan.tensors)),) * 2), seconds=0.0, around=False))
    assert found.plan == plan
    assert found.ended == "the time was spent"


def test_a_looser_ceiling_never_asks_for_more_bits(
    tiny_llama: LoadedModel, texts: dict[str, str], context: Context
) -> None:
    spec: dict[str, Any] = {"bits": (2, 3, 4, 8), "calibration": texts["calibration"], "context": context, **SIZES}
    tightest = run(guarded(tiny_llama, max_kl=1e6, **spec)).document["tried"][0]["kl_mean"]
    ceilings = [tightest * share for share in (1.0, 0.3, 0.1, 0.03)]
    found = [run(guarded(tiny_llama, max_kl=ceiling, **spec)).document for ceiling in ceilings]
    bits = [stored_bits(read_plan(one["plan"])) for one in found]
    assert bits == sorted(bits)
    assert bits[0] < bits[-1]
    for one, ceiling in zip(found, ceilings, strict=True):
        assert one["plan"]["result"]["kl_mean"] <= ceiling
        assert all(other["kl_mean"] > ceiling for other in one["tried"][:-1])


def test_the_agreement_of_a_guarded_plan_is_found_again(
    tiny_llama: LoadedModel, texts: dict[str, str], context: Context
) -> None:
    from workbench.studies import drift

    prompts = ["the cat sat on", "a dog ran to the"]
    spec: dict[str, Any] = {
        "bits": (2, 8),
        "calibration": texts["calibration"],
        "context": context,
        "prompts": prompts,
        **SIZES,
    }
    document = run(guarded(tiny_llama, min_agreement=0.8, method="gradient", **spec)).document
    plan = read_plan(document["plan"])
    again = run(drift(tiny_llama, prompts=prompts, method="gradient", plan=to_document(plan), context=context))
    known = [one["spearman"] for one in again.document["prompts"]]
    assert document["plan"]["result"]["attribution_agreement"] == pytest.approx(sum(known) / 2, abs=1e-6)
    with pytest.raises(WorkbenchError, match="needs prompts; none was given"):
        run(guarded(tiny_llama, min_agreement=0.9, **{**spec, "prompts": []}))
    with pytest.raises(WorkbenchError, match=r"no plan up to .* keeps a KL of 1e-12 \(the least that was measured"):
        run(guarded(tiny_llama, max_kl=1e-12, **spec))


def test_the_front_measures_what_evaluate_measures(
    tiny_llama: LoadedModel, texts: dict[str, str], context: Context
) -> None:
    from workbench.studies import evaluate

    spec: dict[str, Any] = {"bits": WIDTHS, "ways": ("isolated",), "context": context, **texts, **SIZES}
    asked: dict[str, Any] = {**texts, **SIZES}
    document = run(front(tiny_llama, budgets=[3.6, 2.6, 4.5142], rules=["magnitude"], **spec)).document
    assert all(point["label"] in point["reason"] for point in document["points"])
    assert [point["budget"] for point in document["points"]] == [2.6, 3.6, 4.5142]
    assert all(point["stored_bits"] <= point["budget"] + 1e-9 for point in document["points"])
    assert [one["bits"] for one in document["uniform"]] == [2, 4]
    assert len(document["rules"]) == 3
    for point in [document["points"][1], document["uniform"][0], document["rules"][1]]:
        alone = run(evaluate(tiny_llama, plan=point["plan"], context=context, **asked)).document
        assert point["perplexity"] == pytest.approx(alone["perplexity"], rel=1e-6)
        assert point["stored_bits"] == pytest.approx(alone["stored_bits"], rel=1e-9)
    with pytest.raises(WorkbenchError, match=r"a budget of 9 stored bits per weight is above the largest"):
        run(front(tiny_llama, budgets=[9.0], **spec))
