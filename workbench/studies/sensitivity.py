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
from workbench.quantizers.weight import QuantizedWeight
from workbench.registry import quantizers
from workbench.results import Result
from workbench.scheme import Scheme
from workbench.studies.choice import dense, find_matrices, quantize_matrix
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
    needs = set(quantizers.get(quantizer).needs) | ({"gram"} if kind == "output" else set())
    statistics = None
    if needs and missing:
        statistics = yield from within(collect(loaded, windows, needs=needs, folder=context.statistics), 0.03, 0.1)
    sweep = _Sweep(full, statistics, matrices, kind)
    step = 0.9 / max(1, len(missing))
    for done, cell in enumerate(missing):
        held[cell.key] = yield from within(sweep.measure(cell), 0.1 + done * step, 0.1 + (done + 1) * step)
        context.cells.put_cell(cell.key, held[cell.key])
    facts = {"measure": measure, "by": by, "options": dict(chosen[0].options), "calibration": describe(windows)}
    return _result(full, facts, cells, held, len(missing))


class _Sweep:
    """Measures one cell after the other; for `spared` the weights of all matrices at a width are made once."""

    def __init__(self, full: Reference, statistics: Statistics | None, matrices: list[Matrix], kind: str) -> None:
        self.full = full
        self.statistics = statistics
        self.matrices = matrices
        self.kind = kind
        self._width: tuple[Scheme, dict[str, QuantizedWeight], dict[str, float]] | None = None

    def measure(self, cell: _Cell) -> Steps[dict[str, Any]]:
        note = f"{cell.scheme.label}: {cell.matrix.name}"
        yield Progress(0, 1, note)
        if self.kind == "output":
            return self._output_error(cell)
        if self.kind == "isolated":
            held = self._quantize(cell.matrix, cell.scheme)
            rise = yield from self._rise({cell.matrix.name: held}, note)
            return {**rise, "stored_bits": held.stored_bits}
        if self._width is None or self._width[0] != cell.scheme:
            everything = {matrix.name: self._quantize(matrix, cell.scheme) for matrix in self.matrices}
            rise = yield from self._rise(everything, f"{cell.scheme.label}: all matrices")
            self._width = (cell.scheme, everything, rise)
        _, everything, together = self._width
        rest = yield from self._rise({n: w for n, w in everything.items() if n != cell.matrix.name}, note)
        return {
            "stored_bits": everything[cell.matrix.name].stored_bits,
            "loss": together["loss"] - rest["loss"],
            "loss_error": (together["loss_error"] ** 2 + rest["loss_error"] ** 2) ** 0.5,
            "kl": together["kl"] - rest["kl"],
            "kl_error": (together["kl_error"] ** 2 + rest["kl_error"] ** 2) ** 0.5,
        }

    def _quantize(self, matrix: Matrix, scheme: Scheme) -> QuantizedWeight:
        stats = self.statistics.of(matrix) if self.statistics is not None else None
        return quantize_matrix(read_weight(self.full.loaded.model, matrix), stats, scheme)

    def _rise(self, quantized: dict[str, QuantizedWeight], note: str) -> Steps[dict[str, float]]:
        compared = yield from compare(self.full, dense(quantized), note)
        difference = paired_difference(compared.losses, self.full.losses)
        kl = summarize(compared.kl)
        return {
            "loss": difference.difference,
            "loss_error": difference.standard_error,
            "kl": kl.loss,
            "kl_error": kl.standard_error,
        }

    def _output_error(self, cell: _Cell) -> dict[str, Any]:
        assert self.statistics is not None
        weight = read_weight(self.full.loaded.model, cell.matrix)
        held = self._quantize(cell.matrix, cell.scheme)
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
