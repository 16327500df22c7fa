"""What each matrix costs at each width: the table behind every plan; killed and started again, it continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError, unknown
from workbench.measures.perplexity import summarize, token_losses
from workbench.model.load import LoadedModel
from workbench.model.texts import Windows
from workbench.progress import Progress, Steps, within
from workbench.results import Result
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context
from workbench.studies.layer_error import schemes_for
from workbench.studies.sensitivity_cells import FIELDS, Cell, Kept, make_cells, read_cell, reference_key, row_of
from workbench.studies.sensitivity_sweep import Outcome, Sweep
from workbench.studies.sensitivity_whole import NEEDS, WholeText
from workbench.studies.stopping import Stop
from workbench.studies.texts import calibration_windows, describe

MEASURES = tuple(FIELDS)
MEASURED = ("isolated", "spared")
WAYS = (*MEASURED, *NEEDS)
NODES = 4


def sensitivity(
    loaded: LoadedModel,
    *,
    quantizer: str = "rtn",
    bits: Sequence[int] = (2, 3, 4, 8),
    group_size: int = 64,
    symmetric: bool = False,
    options: Mapping[str, Any] | None = None,
    measure: str = "loss",
    by: str = "isolated",
    precision: float | None = None,
    budgets: Sequence[float] | None = None,
    nodes: int = NODES,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Find what every matrix costs at every width on the calibration text.

    `isolated`: only this matrix is quantized, the value is the rise over the full model. `spared`: all matrices but
    this one are quantized at that width, the value is what sparing it saves. `joint-path` and `second-order`: its part
    of the change with all quantized, from gradients, for the loss alone. `loss` in nats a token, `kl` in nats against
    the full model, `output-error` relative, from the Gram matrix (isolated by nature). The standard error is paired
    over windows; only measured cells have one. `tokens` of a cell is how many stand behind it. Divergences are taken
    only where they are the measure; losses are taken with them.

    Args:
        loaded: the model.
        quantizer: which method.
        bits: the widths.
        group_size: input columns a scale.
        symmetric: no zero point.
        options: of the quantizer.
        measure: `loss`, `kl` or `output-error`.
        by: `isolated`, `spared`, `joint-path` or `second-order`.
        precision: when a measured cell has seen enough windows (`stopping.Stop`); None for all of them.
        budgets: stored bits per weight of the plans that are to come, for a sweep with a precision.
        nodes: points of the joint path at 1 bit; wider grids take fewer (`sensitivity_cells.nodes_of`).
        calibration: the text.
        tokens: its length at most.
        window: tokens of a window.
        context: the store.

    Raises:
        WorkbenchError: a word that is none of these, a precision or budgets that nothing uses, or what a quantizer or a
            gradient sweep refuses.
    """
    context = context or Context()
    stop = Stop(precision, None if budgets is None else tuple(budgets)).check()
    kind = _kind(measure, by, stop)
    chosen = schemes_for(quantizer, bits, group_size, symmetric, options)
    matrices = find_matrices(loaded)
    windows = calibration_windows(loaded, calibration, tokens, window)
    cells = make_cells(loaded, windows, matrices, chosen, kind, nodes)
    kept = context.cells.get_cells([cell.key for cell in cells])
    yield Progress(0, 1, "looking for what is there")
    full = yield from within(_reference_loss(loaded, windows, context), 0.0, 0.03)
    if kind in MEASURED:
        sweep = Sweep(loaded, windows, matrices, cells, kept, by=by, measure=measure, stop=stop, context=context)
        outcome = yield from within(sweep.run(), 0.03, 1.0)
    else:
        whole = WholeText(loaded, windows, matrices, kind, nodes, context)
        outcome = Outcome((yield from within(whole.run(cells, kept), 0.03, 1.0)), {})
    facts = {
        "measure": measure,
        "by": by,
        "options": dict(chosen[0].options),
        "calibration": describe(windows),
        "precision": precision,
        "budgets": None if stop.budgets is None else list(stop.budgets),
        "nodes": nodes if kind == "joint-path" else None,
        "reference_loss": full,
    }
    return _result(loaded, windows, cells, kept, outcome, facts)


def _reference_loss(loaded: LoadedModel, windows: Windows, context: Context) -> Steps[float | None]:
    """Mean loss of the full model, kept like a cell: a table that is there costs no forward."""
    key = reference_key(loaded, windows)
    kept = context.cells.get_cells([key])
    if key not in kept:
        losses = yield from token_losses(loaded.model, windows.ids)
        kept = {key: {"loss": summarize(losses).loss}}
        context.cells.put_cell(key, kept[key])
    return read_cell(kept[key], "loss", None, len(windows.ids)).value


def _kind(measure: str, by: str, stop: Stop) -> str:
    """What the cells are of: a way, or `output`."""
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    if by not in WAYS:
        raise unknown("way of measuring", by, WAYS)
    if by in NEEDS and measure != "loss":
        raise WorkbenchError(
            f"{by!r} shares out the loss and knows no {measure!r}; choose measure 'loss' or another way"
        )
    kind = "output" if measure == "output-error" else by
    if kind not in MEASURED and stop.precision is not None:
        raise WorkbenchError(
            f"precision has value {stop.precision}, and a table of {measure!r} by {by!r} is made of the whole text; "
            "leave it out"
        )
    return kind


def _result(
    loaded: LoadedModel, windows: Windows, cells: Sequence[Cell], kept: Kept, sweep: Outcome, facts: dict[str, Any]
) -> Result:
    """The document and its table."""
    field, of = FIELDS[facts["measure"]], len(windows.ids)
    rows = []
    for cell in cells:
        reading = read_cell(kept[cell.key], field, sweep.counts.get(cell.key), of)
        rows.append(row_of(cell, kept[cell.key]["stored_bits"], reading, windows.window))
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "identity": loaded.identity.to_json(),
        **facts,
        "cells": [{key: row[key] for key in row if key not in ("block", "role")} for row in rows],
        "reused": len(cells) - len(sweep.computed),
        "computed": len(sweep.computed),
    }
    table = pd.DataFrame(rows)
    table["standard_error"] = table["standard_error"].astype(float)
    return Result(document, {"cells": table})
