"""What each matrix costs at each width, measured: the sweep behind every plan; killed and restarted, it continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from workbench.errors import unknown
from workbench.measures.error import output_error_from_gram
from workbench.measures.perplexity import paired_difference, summarize
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.statistics import Statistics, collect
from workbench.model.texts import Windows
from workbench.progress import Progress, Steps, within
from workbench.quantizers.driver import Quantized
from workbench.quantizers.weight import QuantizedWeight
from workbench.results import Result
from workbench.scheme import Scheme
from workbench.studies.choice import find_matrices, quantize_assignment
from workbench.studies.context import Context, cell_key
from workbench.studies.layer_error import schemes_for
from workbench.studies.reference import Reference, compare, reference
from workbench.studies.texts import calibration_windows, describe
from workbench.vocabulary import STUDY_VERSION

MEASURES = ("loss", "kl", "output-error")
WAYS = ("isolated", "spared")


@dataclass(frozen=True)
class _Cell:
    matrix: Matrix
    scheme: Scheme
    key: str


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
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Measure every matrix at every width on the calibration text.

    `isolated`: only this matrix is quantized, the value is the rise over the full model. `spared`: all matrices but
    this one are quantized at that width, the value is what sparing it saves. `loss` in nats a token, `kl` in nats
    against the full model, `output-error` relative, from the Gram matrix (isolated by nature).
    The standard error is paired over windows; an output error has none.
    """
    context = context or Context()
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    if by not in WAYS:
        raise unknown("way of measuring", by, WAYS)
    chosen = schemes_for(quantizer, bits, group_size, symmetric, options)
    matrices = find_matrices(loaded)
    windows = calibration_windows(loaded, calibration, tokens, window)
    kind = "output" if measure == "output-error" else by
    cells = [
        _Cell(matrix, scheme, _key(loaded, windows, matrix, scheme, kind)) for matrix in matrices for scheme in chosen
    ]
    held = context.cells.get_cells([cell.key for cell in cells])
    missing = [cell for cell in cells if cell.key not in held]
    full = yield from within(reference(loaded, windows), 0.0, 0.03)
    statistics = None
    if kind == "output" and missing:
        collected = collect(loaded, windows, needs={"gram"}, folder=context.statistics)
        statistics = yield from within(collected, 0.03, 0.1)
    sweep = _Sweep(full, statistics, matrices, kind, context)
    step = 0.9 / max(1, len(missing))
    missing.sort(key=lambda cell: chosen.index(cell.scheme))  # all weights of one scheme are made at once
    for done, cell in enumerate(missing):
        held[cell.key] = yield from within(sweep.measure(cell), 0.1 + done * step, 0.1 + (done + 1) * step)
        context.cells.put_cell(cell.key, held[cell.key])
    facts = {"measure": measure, "by": by, "options": dict(chosen[0].options), "calibration": describe(windows)}
    return _result(full, facts, cells, held, len(missing))


class _Sweep:
    """Measures one cell after the other; the weights of all matrices under a scheme are made once."""

    def __init__(
        self, full: Reference, statistics: Statistics | None, matrices: list[Matrix], kind: str, context: Context
    ) -> None:
        self.full, self.statistics, self.matrices = full, statistics, matrices
        self.kind, self.context = kind, context
        self._held: tuple[Scheme, dict[str, QuantizedWeight]] | None = None
        self._together: dict[str, float] = {}

    def measure(self, cell: _Cell) -> Steps[dict[str, Any]]:
        note = f"{cell.scheme.label}: {cell.matrix.name}"
        yield Progress(0, 1, note)
        everything = yield from self._everything(cell.scheme)
        held, together = everything[cell.matrix.name], self._together
        if self.kind == "output":
            return self._output_error(cell, held)
        if self.kind == "isolated":
            rise = yield from self._rise({cell.matrix.name: held}, note)
            return {**rise, "stored_bits": held.stored_bits}
        rest = yield from self._rise({n: w for n, w in everything.items() if n != cell.matrix.name}, note)
        return {
            "stored_bits": held.stored_bits,
            "loss": together["loss"] - rest["loss"],
            "loss_error": (together["loss_error"] ** 2 + rest["loss_error"] ** 2) ** 0.5,
            "kl": together["kl"] - rest["kl"],
            "kl_error": (together["kl_error"] ** 2 + rest["kl_error"] ** 2) ** 0.5,
        }

    def _everything(self, scheme: Scheme) -> Steps[dict[str, QuantizedWeight]]:
        """The weights of all matrices under a scheme: fed by the full model, unless all are quantized together."""
        if self._held is None or self._held[0] != scheme:
            assignment, alone = {matrix.name: scheme for matrix in self.matrices}, self.kind != "spared"
            steps = quantize_assignment(self.full.loaded, assignment, self.full.windows, self.context, isolated=alone)
            self._held = (scheme, (yield from within(steps, 0.0, 0.0)).weights)
            if not alone:
                self._together = yield from self._rise(self._held[1], f"{scheme.label}: all matrices")
        return self._held[1]

    def _rise(self, quantized: dict[str, QuantizedWeight], note: str) -> Steps[dict[str, float]]:
        compared = yield from compare(self.full, Quantized(quantized).dense(), note)
        difference = paired_difference(compared.losses, self.full.losses)
        kl = summarize(compared.kl)
        return {
            "loss": difference.difference,
            "loss_error": difference.standard_error,
            "kl": kl.loss,
            "kl_error": kl.standard_error,
        }

    def _output_error(self, cell: _Cell, held: QuantizedWeight) -> dict[str, Any]:
        assert self.statistics is not None
        weight = read_weight(self.full.loaded.model, cell.matrix)
        gram = self.statistics.gram_of(cell.matrix)
        error = output_error_from_gram(weight, held.dequantize(torch.float32), gram)
        return {"output": error, "stored_bits": held.stored_bits}


def _key(loaded: LoadedModel, windows: Windows, matrix: Matrix, scheme: Scheme, kind: str) -> str:
    return cell_key(
        {
            "study": "sensitivity",
            "version": STUDY_VERSION,
            "model": loaded.identity.digest,
            "windows": windows.digest,
            "matrix": matrix.name,
            "scheme": scheme.to_json(),
            "kind": kind,
        }
    )


def _result(full: Reference, facts: dict[str, Any], cells: list[_Cell], held: dict[str, Any], computed: int) -> Result:
    field = {"loss": "loss", "kl": "kl", "output-error": "output"}[facts["measure"]]
    rows = [
        {
            "matrix": cell.matrix.name,
            "block": cell.matrix.block,
            "role": cell.matrix.role,
            "bits": cell.scheme.bits,
            "group_size": cell.scheme.group_size,
            "quantizer": cell.scheme.quantizer,
            "symmetric": cell.scheme.symmetric,
            "parameters": cell.matrix.parameters,
            "stored_bits": held[cell.key]["stored_bits"],
            "value": held[cell.key][field],
            "standard_error": held[cell.key].get(f"{field}_error"),
        }
        for cell in cells
    ]
    loaded = full.loaded
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "identity": loaded.identity.to_json(),
        **facts,
        "reference_loss": summarize(full.losses).loss,
        "cells": [{key: row[key] for key in row if key not in ("block", "role")} for row in rows],
        "reused": len(cells) - computed,
        "computed": computed,
    }
    table = pd.DataFrame(rows)
    table["standard_error"] = table["standard_error"].astype(float)
    return Result(document, {"cells": table})
