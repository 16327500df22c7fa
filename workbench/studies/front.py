"""Plans along a range of budgets, against uniform plans and rules of thumb, all measured on the evaluation text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.allocation.budgets import bits_request
from workbench.allocation.items import Item
from workbench.allocation.plan import Plan, to_document
from workbench.allocation.planning import Wish, check_budget, check_model, items_of, uniform_plans, write
from workbench.allocation.rules import by_score
from workbench.allocation.ties import read_ties
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.progress import Steps, within
from workbench.results import Result
from workbench.studies.allocate import WAYS, measure_tables, offers
from workbench.studies.context import Context
from workbench.studies.decision import Decision, Desk, decide, open_desk, spread_candidates
from workbench.studies.front_rows import sort_out
from workbench.studies.inspection import inspection
from workbench.studies.possible import check_possible
from workbench.studies.salience import salience
from workbench.studies.tradeoff import tradeoff

RULES = ("wanda", "activation")
BUDGETS_AT_MOST = 16


def front(
    loaded: LoadedModel,
    *,
    budgets: Sequence[float],
    quantizers: Sequence[str] = ("rtn",),
    bits: Sequence[int] = (2, 3, 4, 8),
    group_size: int = 64,
    symmetric: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    ways: Sequence[str] = WAYS,
    ties: Sequence[str] = (),
    rules: Sequence[str] = RULES,
    refine_seconds: float = 0.0,
    cells: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    text: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """One plan a budget as `allocate` takes it, the plan of the budget below among its candidates.

    Nothing is chosen on the evaluation text: plans are solved on calibration text and taken on what follows it. Rules
    of thumb give the matrices of the highest mean salience more bits, by the metrics of `rules`.

    Args:
        loaded: the model.
        budgets: stored bits per weight, in any order.
        quantizers: as of `allocate`; rules of thumb use the first.
        bits: as of `allocate`.
        group_size: as of `allocate`.
        symmetric: as of `allocate`.
        options: as of `allocate`.
        ways: as of `allocate`.
        ties: as of `allocate`.
        rules: salience metrics, none for no rules.
        refine_seconds: time for measured swaps a budget.
        cells: as of `allocate`.
        calibration: text that feeds tables and quantizers.
        text: text that measures.
        tokens: tokens of each that are read.
        window: tokens of one sequence.
        context: what the process shares.

    Raises:
        WorkbenchError: no budget, more than 16, or one out of range.
    """
    context = context or Context()
    inspected = (yield from within(inspection(loaded), 0.0, 0.01)).document
    check_model(cells or {}, inspected["model"])
    read = {"calibration": calibration, "tokens": tokens, "window": window}
    grid, chosen = {"group_size": group_size, "symmetric": symmetric}, offers(quantizers, bits, options)
    wishes = _wishes(budgets, read_ties(ties, inspected["matrices"]), bits)
    if cells is None:
        check_possible(chosen, grid, inspected, wishes)
    measured = measure_tables(loaded, chosen, ways, {**grid, **read}, context)
    tables = (yield from within(measured, 0.01, 0.3)) if cells is None else [cells]
    for wish in wishes:
        check_budget(items_of(tables[0], inspected["matrices"], wish), wish)
    desk = yield from within(open_desk(loaded, inspected, tables, read, context), 0.3, 0.33)
    taken = yield from within(_along(desk, wishes, refine_seconds), 0.33, 0.7)
    ruled = yield from within(_ruled(loaded, desk, wishes, rules, read, context), 0.7, 0.75)
    uniform = uniform_plans(tables[0], inspected, wishes[-1])
    along = [(one.taken.label, one.taken.plan) for one in taken]
    plans = [*along, *_named(uniform), *((one["label"], one["plan"]) for one in ruled)]
    points = [{"label": label, "plan": to_document(plan)} for label, plan in plans]
    held = tradeoff(loaded, points=points, text=text, **read, context=context)
    found = (yield from within(held, 0.75, 1.0)).document
    return sort_out(found, wishes, taken, uniform, ruled)


def _wishes(budgets: Sequence[float], ties: tuple[tuple[str, ...], ...], bits: Sequence[int]) -> list[Wish]:
    """One wish a budget, from small to large.

    Raises:
        WorkbenchError: none, or too many.
    """
    wanted = sorted(set(budgets))
    if not 1 <= len(wanted) <= BUDGETS_AT_MOST:
        raise WorkbenchError(f"{len(wanted)} budgets were given; give 1 to {BUDGETS_AT_MOST}")
    return [Wish(bits_request(budget), ties=ties, widths=tuple(bits)) for budget in wanted]


def _along(desk: Desk, wishes: Sequence[Wish], refine_seconds: float) -> Steps[list[Decision]]:
    """What is taken for every budget; a larger one may keep what a smaller one took."""
    taken: list[Decision] = []
    yield from within(spread_candidates(desk, wishes), 0.0, 0.5)
    for place, wish in enumerate(wishes):
        before = [dataclasses.replace(one.taken, solving=None, unseen=None) for one in taken[-1:]]
        steps = decide(desk, wish, refine_seconds=refine_seconds, others=before)
        taken.append((yield from within(steps, place / len(wishes), (place + 1) / len(wishes))))
    return taken


def _ruled(
    loaded: LoadedModel,
    desk: Desk,
    wishes: Sequence[Wish],
    rules: Sequence[str],
    read: Mapping[str, Any],
    context: Context,
) -> Steps[list[dict[str, Any]]]:
    """The plans of the rules of thumb, one a metric and budget."""
    rows = []
    for place, metric in enumerate(rules):
        steps = salience(loaded, metric=metric, **read, context=context)
        found = yield from within(steps, place / len(rules), (place + 1) / len(rules))
        scores = {one["name"]: one["mean"] for one in found.document["matrices"]}
        for wish in wishes:
            items = _of_one_quantizer(items_of(desk.tables[0], desk.inspected["matrices"], wish))
            plan = write(by_score(items, scores, wish.request.bits), desk.tables[0], desk.inspected, wish)
            label = f"most {metric} first, {wish.request.bits:g}"
            rows.append({"metric": metric, "budget": wish.request.bits, "label": label, "plan": plan})
    return rows


def _of_one_quantizer(items: Sequence[Item]) -> list[Item]:
    first = items[0].choices[0].quantizer
    return [
        Item(item.name, item.numel, tuple(choice for choice in item.choices if choice.quantizer == first), item.locked)
        for item in items
    ]


def _named(plans: Sequence[Plan]) -> list[tuple[str, Plan]]:
    tensors = [next(iter(plan.tensors.values())) for plan in plans]
    return [(f"uniform {one.method} {one.bits} bit", plan) for one, plan in zip(tensors, plans, strict=True)]
