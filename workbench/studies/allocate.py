"""Where the bits go for a budget: plans solved on several tables, held against the uniform ones, refined, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.allocation.budgets import Request, bits_request, file_request
from workbench.allocation.cells import join
from workbench.allocation.planning import Wish, check_model
from workbench.allocation.ties import read_ties
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.progress import Steps, within
from workbench.registry import quantizers as registered
from workbench.results import Result
from workbench.studies.context import Context
from workbench.studies.decision import decide, open_desk, unmeasured
from workbench.studies.inspection import inspection
from workbench.studies.possible import Offer, check_possible
from workbench.studies.sensitivity import sensitivity

WAYS = ("isolated", "joint-path")
SECONDS = 30.0


def allocate(
    loaded: LoadedModel,
    *,
    budget: float | None = None,
    file_bytes: str | None = None,
    quantizers: Sequence[str] = ("rtn",),
    bits: Sequence[int] = (2, 3, 4, 8),
    group_size: int = 64,
    symmetric: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    ways: Sequence[str] = WAYS,
    locks: Mapping[str, int] | None = None,
    floor: int | None = None,
    ceiling: int | None = None,
    ties: Sequence[str] = (),
    solver: str = "milp",
    refine_seconds: float = SECONDS,
    cells: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Choose the bits of every matrix for a budget, and say what was chosen from.

    Candidates are the plans solved on the tables of `ways` and between them, with and without fused matrices alike,
    every uniform plan within the budget, and the best of these refined by measured swaps where sums miss what plans
    really cost. Text that no plan was made on decides; a uniform plan stands unless another is clearly better, and one
    with fused matrices alike unless another is better by a standard error.

    Args:
        loaded: the model.
        budget: stored bits per weight, scales and zero points included.
        file_bytes: in its place, what all weights may take in a file, such as `450KB`.
        quantizers: whose grids may be mixed.
        bits: widths; each quantizer takes those that it has.
        group_size: columns a scale, -1 for whole rows.
        symmetric: grids without zero point.
        options: of each quantizer by its name.
        ways: what sensitivity tables are made and solved on; `isolated`, `joint-path` or `second-order`.
        locks: matrix -> width that is fixed.
        floor: least width of all others.
        ceiling: most width of all others.
        ties: `fused`, or names with commas between them: matrices that must be alike.
        solver: `milp` or `lagrangian`.
        refine_seconds: time for measured swaps, 0 for none.
        cells: a sensitivity document in the place of those of `ways`; where the model has no calibration text of its
            own and none is named, the plan is written as it was solved and says so.
        calibration: text that feeds tables and quantizers; what follows its first `tokens` decides.
        tokens: tokens of it that the tables read.
        window: tokens of one sequence.
        context: what the process shares.

    Raises:
        WorkbenchError: no budget or two, one out of range, a lock, tie or limit that cannot be kept, a faulty table.
    """
    context = context or Context()
    inspected = (yield from within(inspection(loaded), 0.0, 0.01)).document
    check_model(cells or {}, inspected["model"])
    wish = Wish(
        request=read_request(budget, file_bytes, inspected),
        locks=dict(locks or {}),
        floor=floor,
        ceiling=ceiling,
        ties=read_ties(ties, inspected["matrices"]),
        widths=tuple(bits),
        solver=solver,
    )
    text = {"calibration": calibration, "tokens": tokens, "window": window}
    grid = {"group_size": group_size, "symmetric": symmetric}
    chosen = offers(quantizers, bits, options)
    if cells is None:
        check_possible(chosen, grid, inspected, [wish])
    measured = measure_tables(loaded, chosen, ways, {**grid, **text}, context)
    tables = (yield from within(measured, 0.01, 0.5)) if cells is None else [cells]
    if cells is not None and calibration is None and loaded.identity.id != "demo":
        return unmeasured(tables[0], inspected, wish)
    desk = yield from within(open_desk(loaded, inspected, tables, text, context), 0.5, 0.55)
    decision = yield from within(decide(desk, wish, refine_seconds=refine_seconds), 0.55, 1.0)
    return Result(decision.document(desk), {"candidates": pd.DataFrame(decision.rows(desk)).drop(columns="plan")})


def read_request(budget: float | None, file_bytes: str | None, inspected: Mapping[str, Any]) -> Request:
    """The budget in the one way or the other.

    Raises:
        WorkbenchError: neither or both were given, or a size that cannot be.
    """
    if (budget is None) == (file_bytes is None):
        given = "both were" if budget is not None else "neither was"
        raise WorkbenchError(f"a budget in stored bits or a file size is needed, one of the two; {given} given")
    return bits_request(budget) if budget is not None else file_request(str(file_bytes), inspected)


def widths_of(quantizer: str, bits: Sequence[int]) -> Sequence[int]:
    """The widths that a quantizer has among those asked for.

    Raises:
        WorkbenchError: it has none of them, or a width of its own that a plan cannot choose.
    """
    traits = registered.get(quantizer).traits
    if traits.get("fixed_width"):
        raise WorkbenchError(f"quantizer {quantizer!r} has one width of its own, so there is nothing to allocate")
    held = [width for width in bits if width in traits.get("widths", bits)]
    if not held:
        choices = ", ".join(map(str, traits["widths"]))
        raise WorkbenchError(f"quantizer {quantizer!r} has none of the widths {list(bits)}; its widths are: {choices}")
    return held


def offers(
    quantizers: Sequence[str], bits: Sequence[int], options: Mapping[str, Mapping[str, Any]] | None
) -> list[Offer]:
    """What each quantizer can do of what was asked for.

    Raises:
        WorkbenchError: see `widths_of`.
    """
    return [(name, list(widths_of(name, bits)), dict((options or {}).get(name, {}))) for name in quantizers]


def measure_tables(
    loaded: LoadedModel,
    chosen: Sequence[Offer],
    ways: Sequence[str],
    asked: Mapping[str, Any],
    context: Context,
) -> Steps[list[Mapping[str, Any]]]:
    """A sensitivity document a way of measuring, the quantizers joined in it; cells that were measured are read."""
    tables, done, every = [], 0, max(1, len(ways) * len(chosen))
    for way in ways:
        documents = []
        for name, widths, settings in chosen:
            spec = {**asked, "quantizer": name, "bits": widths, "options": settings, "by": way}
            steps = sensitivity(loaded, **spec, context=context)
            documents.append((yield from within(steps, done / every, (done + 1) / every)).document)
            done += 1
        tables.append(join(documents) if len(documents) > 1 else documents[0])
    return tables
