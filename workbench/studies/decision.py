"""Takes one plan for a budget: all candidates measured on the same unseen text, the uniform ones among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.allocation.plan import Plan, to_document
from workbench.allocation.planning import Wish, solved_plan, uniform_plans
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.progress import Steps, within
from workbench.results import Result
from workbench.studies.candidates import Candidate, distinct, row, take
from workbench.studies.context import Context
from workbench.studies.plan_meter import PlanMeter, Reading
from workbench.studies.reference import reference
from workbench.studies.refine import Board, Refined, refine
from workbench.studies.solved import solved_candidates
from workbench.studies.stopping import RESOLUTION
from workbench.studies.texts import CALIBRATION_TOKENS, calibration_windows, describe, windows_after

FAILS = 0.05
"""Part of the measured rise by which a sum may miss it before swaps are tried; both are of the same text."""


@dataclass(frozen=True)
class Desk:
    """What decisions about one model are made with, whatever the budget.

    Attributes:
        inspected: the document of `inspect`.
        tables: sensitivity documents, the first of which swaps go by.
        solving: meter of the text that the tables were measured on.
        unseen: meter of the text after it; None where too little is left.
        note: why there is none.
    """

    inspected: Mapping[str, Any]
    tables: Sequence[Mapping[str, Any]]
    solving: PlanMeter
    unseen: PlanMeter | None
    note: str | None


def open_desk(
    loaded: LoadedModel,
    inspected: Mapping[str, Any],
    tables: Sequence[Mapping[str, Any]],
    text: Mapping[str, Any],
    context: Context,
) -> Steps[Desk]:
    """Run the full model over both texts."""
    facts = tables[0].get("calibration") or {}
    used, window = facts.get("tokens") or text["tokens"] or CALIBRATION_TOKENS, facts.get("window") or text["window"]
    seen = calibration_windows(loaded, text["calibration"], used, window)
    solving = PlanMeter((yield from within(reference(loaded, seen), 0.0, 0.5)), seen, context)
    try:
        rest = windows_after(loaded, text["calibration"], used, max(used, CALIBRATION_TOKENS), window)
    except WorkbenchError as error:
        return Desk(inspected, tables, solving, None, str(error))
    full = yield from within(reference(loaded, rest), 0.5, 1.0)
    return Desk(inspected, tables, solving, PlanMeter(full, seen, context), None)


@dataclass(frozen=True)
class Decision:
    """The plan that is taken, why, and all that it was chosen from."""

    taken: Candidate
    reason: str
    candidates: Sequence[Candidate]
    refined: Refined | None

    def rows(self, desk: Desk) -> list[dict[str, Any]]:
        """The candidates for a table, on the text that decided."""
        meter = desk.unseen or desk.solving
        return [row(one, meter.reference, self.taken) for one in self.candidates]

    def document(self, desk: Desk) -> dict[str, Any]:
        """The decision as JSON; its `plan` has what it cost on the deciding text among its facts."""
        meter = desk.unseen or desk.solving
        refined = self.refined
        return {
            "model": {"id": meter.full.loaded.identity.id, "digest": meter.full.loaded.identity.digest},
            "text": {**describe(meter.full.windows), "unseen": desk.unseen is not None},
            "plan": to_document(self.taken.plan),
            "reason": self.reason,
            "note": desk.note,
            "candidates": self.rows(desk),
            "swaps": refined.swaps if refined else [],
            "swaps_measured": refined.measured if refined else 0,
            "refining_ended": refined.ended if refined else None,
        }


def decide(desk: Desk, wish: Wish, *, refine_seconds: float = 0.0, others: Sequence[Candidate] = ()) -> Steps[Decision]:
    """Make all candidates for a budget, measure them on the unseen text, and take one.

    Args:
        desk: tables and texts.
        wish: budget and what every plan must keep.
        refine_seconds: time for measured swaps.
        others: further plans within the budget.
    """
    candidates = distinct([*_given(desk, wish), *others])
    yield from within(_spread(desk, candidates), 0.0, 0.5)
    for place, one in enumerate(candidates):
        part = 0.5 * place / len(candidates), 0.5 * (place + 1) / len(candidates)
        one.solving = yield from within(desk.solving.read(one.plan, one.label), *part)
    refined = None
    if refine_seconds > 0:
        steps = _refine(desk, wish, candidates, refine_seconds)
        refined = yield from within(steps, 0.5, 0.8)
        if refined is not None and refined.swaps:
            label = f"{len(refined.swaps)} measured swap{'s' if len(refined.swaps) > 1 else ''}"
            candidates = distinct([*candidates, Candidate(label, False, refined.plan, refined.reading)])
    if desk.unseen is not None:
        for place, one in enumerate(candidates):
            part = 0.8 + 0.2 * place / len(candidates), 0.8 + 0.2 * (place + 1) / len(candidates)
            one.unseen = yield from within(desk.unseen.read(one.plan, one.label), *part)
    taken, reason = take(candidates)
    return Decision(taken, reason, candidates, refined)


def spread_candidates(desk: Desk, wishes: Sequence[Wish]) -> Steps[None]:
    """Have the solved and uniform plans of several budgets measured at once, if there is a crew."""
    if desk.solving.context.crew is not None:
        yield from _spread(desk, [one for wish in wishes for one in _given(desk, wish)])


def _spread(desk: Desk, candidates: Sequence[Candidate]) -> Steps[None]:
    plans = [(one.plan, one.label) for one in candidates]
    yield from within(desk.solving.spread(plans), 0.0, 0.5)
    if desk.unseen is not None:
        yield from within(desk.unseen.spread(plans), 0.5, 1.0)


def _given(desk: Desk, wish: Wish) -> list[Candidate]:
    """The uniform plans and those that solvers give."""
    uniform = uniform_plans(desk.tables[0], desk.inspected, wish)
    alike = [Candidate(_uniform_label(one), True, one) for one in uniform]
    return [*alike, *solved_candidates(desk.tables, desk.inspected, wish)]


def _uniform_label(plan: Plan) -> str:
    free = [tensor for name, tensor in plan.tensors.items() if not plan.solver or name not in plan.solver.locks]
    if not free:
        return "everything locked"
    tensor = free[0]
    group = "whole rows" if tensor.group_size == -1 else f"groups of {tensor.group_size}"
    return f"uniform {tensor.method} {tensor.bits} bit, {group}"


def _refine(desk: Desk, wish: Wish, candidates: Sequence[Candidate], seconds: float) -> Steps[Refined | None]:
    """Refine the best candidate where some sum misses what its plan costs; None where sums can be trusted."""
    if not any(_misses(one, desk.solving.reference) for one in candidates if not one.uniform):
        return None
    best = min((one for one in candidates if one.solving), key=lambda one: one.solving.loss)  # type: ignore[union-attr]
    board = Board(desk.tables[0], desk.inspected, wish)
    hurry = desk.solving.context.hurry
    return (yield from refine(board, best.plan, desk.solving, seconds=seconds, hurry=hurry))


def _misses(one: Candidate, full: Reading) -> bool:
    if one.predicted is None or one.solving is None:
        return True
    rise = one.solving.over(full).difference
    return abs(rise - one.predicted) > max(FAILS * abs(rise), RESOLUTION)


def unmeasured(table: Mapping[str, Any], inspected: Mapping[str, Any], wish: Wish) -> Result:
    """The plan solved on a table, where there is no text to measure any on."""
    plan = solved_plan(table, inspected, wish)
    document = {
        "model": {"id": inspected["model"]["id"], "digest": inspected["model"]["digest"]},
        "text": None,
        "plan": to_document(plan),
        "reason": "the solver's plan, not measured",
        "note": "no plan was measured: name the text that follows the table's with --calibration",
        "candidates": [],
        "swaps": [],
        "swaps_measured": 0,
        "refining_ended": None,
    }
    return Result(document, {"candidates": pd.DataFrame()})
