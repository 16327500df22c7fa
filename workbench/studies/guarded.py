"""The fewest bits that keep the answers and the reasons: ceilings on KL and on how far attribution may drift."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.allocation.budgets import bits_request
from workbench.allocation.plan import Plan, read_plan, stored_bits, to_document
from workbench.allocation.planning import Wish, check_model, items_of, solved_plan, uniform_plans
from workbench.allocation.solution import budget_range
from workbench.allocation.ties import read_ties
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.progress import Steps, within
from workbench.results import Result
from workbench.studies.allocate import measure_tables, offers
from workbench.studies.context import Context
from workbench.studies.decision import Desk, open_desk
from workbench.studies.drift import drift
from workbench.studies.inspection import inspection
from workbench.studies.possible import items_by_shapes

STEPS = 24
"""Budgets that are tried, evenly spread over the range of the choices."""


def guarded(
    loaded: LoadedModel,
    *,
    prompts: Sequence[str] = (),
    max_kl: float | None = None,
    min_agreement: float | None = None,
    method: str = "linearised",
    budget: float | None = None,
    quantizers: Sequence[str] = ("rtn",),
    bits: Sequence[int] = (2, 3, 4, 8),
    group_size: int = 64,
    symmetric: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    by: str = "isolated",
    locks: Mapping[str, int] | None = None,
    floor: int | None = None,
    ceiling: int | None = None,
    ties: Sequence[str] = (),
    cells: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """The smallest of a fixed row of solved plans whose answers and reasons stay close enough to the full model's.

    The plans of that row do not depend on the ceilings, and they are tried from the smallest up until one keeps both:
    a looser ceiling therefore never asks for more bits.

    Args:
        loaded: the model.
        prompts: texts whose attribution is compared; needed for `min_agreement`.
        max_kl: most KL to the full model on the calibration text, mean nats a token.
        min_agreement: least mean Spearman correlation of attribution maps, full against quantized.
        method: attribution method of those maps.
        budget: the most stored bits a weight may take; the largest choice when None.
        quantizers: as of `allocate`.
        bits: as of `allocate`.
        group_size: as of `allocate`.
        symmetric: as of `allocate`.
        options: as of `allocate`.
        by: what the sensitivity table is measured by.
        locks: as of `allocate`.
        floor: as of `allocate`.
        ceiling: as of `allocate`.
        ties: as of `allocate`.
        cells: as of `allocate`.
        calibration: as of `allocate`.
        tokens: as of `allocate`.
        window: as of `allocate`.
        context: what the process shares.

    Raises:
        WorkbenchError: no ceiling, one out of its range, agreement without prompts, or ceilings that no plan keeps.
    """
    context = context or Context()
    _check(prompts, max_kl, min_agreement)
    inspected = (yield from within(inspection(loaded), 0.0, 0.01)).document
    check_model(cells or {}, inspected["model"])
    read = {"calibration": calibration, "tokens": tokens, "window": window}
    grid, chosen = {"group_size": group_size, "symmetric": symmetric}, offers(quantizers, bits, options)
    groups = read_ties(ties, inspected["matrices"])
    wish = Wish(bits_request(1.0), dict(locks or {}), floor, ceiling, groups, tuple(bits), envelope=True)
    if cells is None:
        _check_most(budget, budget_range(items_by_shapes(chosen, grid, inspected, wish))[0])
    measured = measure_tables(loaded, chosen, [by], {**grid, **read}, context)
    tables = (yield from within(measured, 0.01, 0.4)) if cells is None else [cells]
    row_of_plans = plans_to_try(tables[0], inspected, wish, budget)
    desk = yield from within(open_desk(loaded, inspected, tables, read, context), 0.4, 0.42)
    rows: list[dict[str, Any]] = []
    for place, plan in enumerate(row_of_plans):
        part = 0.42 + 0.58 * place / len(row_of_plans), 0.42 + 0.58 * (place + 1) / len(row_of_plans)
        compared = prompts if min_agreement is not None else ()
        steps = _measure(loaded, desk, plan, compared, {"method": method, "calibration": calibration}, max_kl, context)
        rows.append((yield from within(steps, *part)))
        if _keeps(rows[-1], max_kl, min_agreement):
            return _result(loaded, rows, {"max_kl": max_kl, "min_agreement": min_agreement, "method": method})
    raise WorkbenchError(_none_keeps(rows, max_kl, min_agreement))


def plans_to_try(table: Mapping[str, Any], inspected: Mapping[str, Any], wish: Wish, most: float | None) -> list[Plan]:
    """Solved plans for evenly spread budgets and the uniform plans among them, from small to large.

    They do not depend on the ceilings. The uniform ones see to it that the largest width is tried even where the
    table's noise hides that it is worth anything.

    Raises:
        WorkbenchError: `most` is below the smallest budget that the choices allow.
    """
    low, high = budget_range(items_of(table, inspected["matrices"], wish))
    _check_most(most, low)
    high = high if most is None else min(high, most)
    spread = [low + (high - low) * place / (STEPS - 1) for place in range(STEPS)]
    asked = [dataclasses.replace(wish, request=bits_request(bits)) for bits in spread]
    plans = [*(solved_plan(table, inspected, one) for one in asked), *uniform_plans(table, inspected, asked[-1])]
    distinct = {str(to_document(plan)["tensors"]): plan for plan in plans}
    return sorted(distinct.values(), key=stored_bits)


def _check_most(most: float | None, low: float) -> None:
    if most is not None and not most >= low:
        raise WorkbenchError(
            f"a budget of {most:g} stored bits is below the smallest that these choices allow, {low:g}"
        )


def _check(prompts: Sequence[str], max_kl: float | None, min_agreement: float | None) -> None:
    if max_kl is None and min_agreement is None:
        raise WorkbenchError("no ceiling was given; give a largest KL, a least agreement of attribution, or both")
    if max_kl is not None and not (math.isfinite(max_kl) and max_kl > 0):
        raise WorkbenchError(f"the largest KL has value {max_kl}; it must be above 0 nats a token")
    if min_agreement is not None and not -1 <= min_agreement <= 1:
        raise WorkbenchError(f"the least agreement has value {min_agreement}; a rank correlation lies between -1 and 1")
    if min_agreement is not None and not prompts:
        raise WorkbenchError("a least agreement of attribution needs prompts; none was given")


def _measure(
    loaded: LoadedModel,
    desk: Desk,
    plan: Plan,
    prompts: Sequence[str],
    asked: Mapping[str, Any],
    max_kl: float | None,
    context: Context,
) -> Steps[dict[str, Any]]:
    """What a plan costs; the maps are drawn only where its KL is within the ceiling."""
    name = f"{stored_bits(plan):.3f} stored bits"
    reading = yield from within(desk.solving.read(plan, name), 0.0, 0.3)
    row: dict[str, Any] = {
        "stored_bits": stored_bits(plan),
        "kl_mean": reading.kl,
        "agreement": None,
        "plan": to_document(plan),
    }
    if prompts and (max_kl is None or reading.kl <= max_kl):
        steps = drift(loaded, prompts=prompts, **asked, plan=row["plan"], context=context)
        found = (yield from within(steps, 0.3, 1.0)).document["prompts"]
        known = [one["spearman"] for one in found if one["spearman"] is not None]
        row["agreement"] = sum(known) / len(known) if known else None
    return row


def _keeps(row: Mapping[str, Any], max_kl: float | None, min_agreement: float | None) -> bool:
    close = max_kl is None or row["kl_mean"] <= max_kl
    alike = min_agreement is None or (row["agreement"] is not None and row["agreement"] >= min_agreement)
    return close and alike


def _none_keeps(rows: Sequence[Mapping[str, Any]], max_kl: float | None, min_agreement: float | None) -> str:
    """The sentence for ceilings that nothing keeps, with the best that there is."""
    words = []
    if max_kl is not None:
        words.append(f"a KL of {max_kl:g} (the least that was measured is {min(r['kl_mean'] for r in rows):.3g})")
    if min_agreement is not None:
        known = [row["agreement"] for row in rows if row["agreement"] is not None]
        most = f"the most that was measured is {max(known):.3f}" if known else "none was within the KL"
        words.append(f"an agreement of {min_agreement:g} ({most})")
    return f"no plan up to {rows[-1]['stored_bits']:.4g} stored bits keeps {' and '.join(words)}"


def _result(loaded: LoadedModel, rows: list[dict[str, Any]], asked: dict[str, Any]) -> Result:
    """The last row's plan with what it was measured to keep, and all that was tried."""
    last = rows[-1]
    held = last["plan"]["result"] or {}
    kept = {"kl_mean": last["kl_mean"], "attribution_agreement": last["agreement"], "guard": asked}
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        **asked,
        "plan": to_document(read_plan({**last["plan"], "result": {**held, **kept}})),
        "tried": [{key: row[key] for key in row if key != "plan"} for row in rows],
    }
    return Result(document, {"tried": pd.DataFrame(document["tried"])})
