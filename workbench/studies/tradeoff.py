"""How much quality for how many bits: uniform widths and plans, each measured on the same text as the full model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.measures.perplexity import paired_difference, summarize
from workbench.model.load import LoadedModel
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.results import Result
from workbench.studies.choice import (
    Assignment,
    account,
    find_matrices,
    quantize_assignment,
    read_assignment,
    reads_calibration,
)
from workbench.studies.context import Context, cell_key
from workbench.studies.plan_parts import PlanWork
from workbench.studies.reference import Reference, compare, reference
from workbench.studies.texts import calibration_windows, describe, evaluation_windows, keep_apart
from workbench.vocabulary import STUDY_VERSION

POINTS_AT_MOST = 64


def tradeoff(
    loaded: LoadedModel,
    *,
    points: Sequence[Mapping[str, Any]],
    text: str | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Measure every point; a point is `{"label", "scheme"}` or `{"label", "plan"}`. Measured points are kept as cells.

    Raises:
        WorkbenchError: no points, more than 64, a bad scheme, or a plan that is not of this model.
    """
    context = context or Context()
    if not 1 <= len(points) <= POINTS_AT_MOST:
        raise WorkbenchError(f"{len(points)} points were given; give 1 to {POINTS_AT_MOST}")
    assignments = [_assignment(loaded, point) for point in points]
    keep_apart(loaded, calibration, text)
    windows = evaluation_windows(loaded, text, tokens, window)
    read = any(reads_calibration(assignment) for assignment in assignments)
    seen = calibration_windows(loaded, calibration, tokens, window) if read else None
    full = yield from within(reference(loaded, windows), 0.0, 0.1)
    wanted = {
        _key(loaded, windows, seen, assignment): (assignment, str(point["label"]))
        for point, assignment in zip(points, assignments, strict=True)
    }
    yield from within(PlanWork(windows, seen, measure).spread(loaded, wanted, context), 0.1, 1.0)
    rows = []
    for done, (point, assignment) in enumerate(zip(points, assignments, strict=True)):
        key = _key(loaded, windows, seen, assignment)
        held = context.cells.get_cells([key]).get(key)
        if held is None:
            start, stop = 0.1 + 0.9 * done / len(points), 0.1 + 0.9 * (done + 1) / len(points)
            held = yield from within(measure(full, assignment, seen, str(point["label"]), context), start, stop)
            context.cells.put_cell(key, held)
        rows.append({"label": str(point["label"]), **held})
    base = summarize(full.losses)
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "text": describe(windows),
        "reference": {
            "perplexity": base.perplexity,
            "loss": base.loss,
            "standard_error": base.standard_error,
        },
        "points": rows,
    }
    return Result(document, {"points": pd.DataFrame(rows)})


def _assignment(loaded: LoadedModel, point: Mapping[str, Any]) -> Assignment:
    if "label" not in point:
        raise WorkbenchError("a point has no label; a point is a label with a scheme or a plan")
    found = read_assignment(loaded, point.get("scheme"), point.get("plan"))
    if found is None:
        raise WorkbenchError(f"point {str(point['label'])[:80]!r} has neither a scheme nor a plan")
    return found


def _key(loaded: LoadedModel, windows: Windows, seen: Windows | None, assignment: Assignment) -> str:
    return cell_key(
        {
            "study": "tradeoff",
            "version": STUDY_VERSION,
            "model": loaded.identity.digest,
            "windows": windows.digest,
            "calibration": seen.digest if seen is not None and reads_calibration(assignment) else None,
            "assignment": {name: scheme.to_json() for name, scheme in assignment.items()},
        }
    )


def measure(
    full: Reference, assignment: Assignment, seen: Windows | None, label: str, context: Context
) -> Steps[Mapping[str, Any]]:
    """The cell of an assignment: its bits, its losses and how far it is from the full model."""
    quantized = yield from within(quantize_assignment(full.loaded, assignment, seen, context), 0.0, 0.5)
    compared = yield from within(compare(full, quantized.dense(), label), 0.5, 1.0)
    summary = summarize(compared.losses)
    difference = paired_difference(compared.losses, full.losses)
    bits = account(find_matrices(full.loaded), quantized.weights)
    return {
        "stored_bits": bits.stored_bits,
        "nominal_bits": bits.nominal_bits,
        "perplexity": summary.perplexity,
        "loss": summary.loss,
        "standard_error": summary.standard_error,
        "delta_loss": difference.difference,
        "delta_standard_error": difference.standard_error,
        "kl_mean": compared.kl.double().mean().item(),
        "top1_agreement": compared.agreement,
    }
