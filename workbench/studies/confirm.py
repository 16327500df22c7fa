"""Is a plan really better? Plans held against each other on text that they were not solved on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.measures.perplexity import paired_difference, summarize
from workbench.model.load import LoadedModel
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.results import Result
from workbench.studies.choice import quantize_assignment, read_assignment, reads_calibration
from workbench.studies.context import Context
from workbench.studies.reference import compare, reference
from workbench.studies.texts import CALIBRATION_TOKENS, calibration_windows, describe


def confirm(
    loaded: LoadedModel,
    *,
    plans: Sequence[Mapping[str, Any]],
    used: int = CALIBRATION_TOKENS,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Measure plans on the calibration text after its first `used` tokens, and compare all with the first.

    Sums of isolated changes are too hopeful where few bits are left, and they carry the noise of the text they were
    measured on. Differences are in nats a token, their standard errors paired over windows.

    Raises:
        WorkbenchError: no plan, a plan of another model, or fewer than two windows left.
    """
    context = context or Context()
    if not plans:
        raise WorkbenchError("no plan was given; give at least one")
    chosen = [read_assignment(loaded, None, plan) or {} for plan in plans]
    unseen = windows_after(loaded, calibration, used, tokens or CALIBRATION_TOKENS, window)
    read = any(map(reads_calibration, chosen))
    seen = calibration_windows(loaded, calibration, used, window) if read else None
    full = yield from within(reference(loaded, unseen), 0.0, 0.2)
    losses = []
    for place, assignment in enumerate(chosen):
        start, step = 0.2 + 0.8 * place / len(chosen), 0.8 / len(chosen)
        quantized = yield from within(quantize_assignment(loaded, assignment, seen, context), start, start + 0.3 * step)
        note = f"plan {place + 1} of {len(chosen)} on unseen text"
        compared = yield from within(compare(full, quantized.dense(), note), start + 0.3 * step, start + step)
        losses.append(compared.losses)
    rows = [
        {"label": f"plan {place + 1}", "loss": summarize(found).loss, **paired_difference(found, losses[0])._asdict()}
        for place, found in enumerate(losses)
    ]
    return Result({"text": describe(unseen), "points": rows}, {"points": pd.DataFrame(rows)})


def windows_after(loaded: LoadedModel, name: str | None, used: int, tokens: int, window: int | None) -> Windows:
    """The windows of the calibration text that follow its first `used` tokens, `tokens` of them at most.

    Raises:
        WorkbenchError: fewer than two are left.
    """
    whole = calibration_windows(loaded, name, used + tokens, window)
    rest = whole.ids[used // whole.window :]
    if len(rest) < 2:
        raise WorkbenchError(
            f"calibration text {whole.name!r} has {len(rest)} windows of {whole.window} tokens after the first {used} "
            "tokens; two are needed to confirm a plan on text that it was not solved on"
        )
    return dataclasses.replace(whole, ids=rest, tokens=rest.numel())
