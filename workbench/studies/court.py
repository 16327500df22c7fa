"""The court: which sensitivity metric to believe, with the measured loss as the judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.statistics import collect
from workbench.progress import Steps, within
from workbench.registry import quantizers
from workbench.results import Result
from workbench.studies.choice import find_matrices, quantize_assignment
from workbench.studies.context import Context
from workbench.studies.court_predictions import Predictions, predict
from workbench.studies.court_truth import Truth, measure
from workbench.studies.court_verdict import judge, verdict
from workbench.studies.layer_error import schemes_for
from workbench.studies.texts import calibration_windows, describe, evaluation_windows, keep_apart
from workbench.usual import TOKENS


def court(
    loaded: LoadedModel,
    *,
    quantizer: str = "rtn",
    bits: Sequence[int] = (2, 3, 4),
    group_size: int = 64,
    symmetric: bool = False,
    options: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    text: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Hold every metric that predicts a change of the loss against the changes that were measured.

    Two truths, each on the calibration text (which the metrics saw) and on the evaluation text (which they did not):
    the rise with one matrix quantized, and with all. Source of the question: arXiv 2503.01901, which says that
    gradient and Hessian metrics are wrong by orders of magnitude.

    Raises:
        WorkbenchError: a quantizer of fixed width, or the same text twice.
    """
    context = context or Context()
    if quantizers.get(quantizer).traits.get("fixed_width"):
        raise WorkbenchError(f"quantizer {quantizer!r} has a fixed width; the court compares widths, choose another")
    chosen = schemes_for(quantizer, bits, group_size, symmetric, options)
    keep_apart(loaded, calibration, text)
    seen = calibration_windows(loaded, calibration, tokens or TOKENS, window)
    unseen = evaluation_windows(loaded, text, tokens or TOKENS, window)
    matrices = find_matrices(loaded)
    statistics = yield from within(collect(loaded, seen, needs={"gram"}, folder=context.statistics), 0.0, 0.03)
    weights = []
    for scheme in chosen:
        assignment = {matrix.name: scheme for matrix in matrices}
        quantized = yield from within(quantize_assignment(loaded, assignment, seen, context, isolated=True), 0.03, 0.05)
        weights.append((scheme, quantized.dense()))
    predictions = yield from within(predict(loaded, seen, statistics, weights, context), 0.05, 0.6)
    on_seen = yield from within(measure(loaded, seen, seen, matrices, weights, context), 0.6, 0.8)
    on_unseen = yield from within(measure(loaded, unseen, seen, matrices, weights, context), 0.8, 1.0)
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "quantizer": quantizer,
        "group_size": group_size,
        "symmetric": symmetric,
        "options": dict(chosen[0].options),
        "calibration": describe(seen),
        "text": describe(unseen),
        **_judged(predictions, on_seen, on_unseen, [int(scheme.bits or 0) for scheme in chosen]),
    }
    tables = {name: pd.DataFrame(document[name]) for name in ("cells", "totals")}
    return Result(document, tables)


def _judged(predictions: Predictions, seen: Truth, unseen: Truth, widths: list[int]) -> dict[str, Any]:
    metrics = [judge(name, predicted, seen, unseen, widths) for name, predicted in predictions.items()]
    totals = [
        {
            "bits": bits,
            "measured": seen.joint[bits],
            "measured_error": seen.joint_error[bits],
            "sum_isolated": sum(rise for (_, width), rise in seen.isolated.items() if width == bits),
            "measured_heldout": unseen.joint[bits],
            "sum_isolated_heldout": sum(rise for (_, width), rise in unseen.isolated.items() if width == bits),
        }
        for bits in widths
    ]
    cells = [
        {
            "matrix": name,
            "bits": bits,
            "metric": metric,
            "predicted": value,
            "measured_isolated": seen.isolated[name, bits],
            "measured_isolated_heldout": unseen.isolated[name, bits],
            "standard_error": seen.isolated_error[name, bits],
            "path_share": predictions["pqi"][name, bits],
        }
        for metric, predicted in predictions.items()
        for (name, bits), value in predicted.items()
    ]
    return {
        "reference_loss": seen.reference_loss,
        "metrics": metrics,
        "cells": cells,
        "totals": totals,
        "verdict": verdict(metrics, totals),
    }
