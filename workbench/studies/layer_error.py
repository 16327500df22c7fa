"""What every matrix loses at every width, alone: weight error, exact output error, SQNR, cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.measures.error import cosine, output_error_from_gram, sqnr_db, weight_error
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.statistics import collect
from workbench.model.streaming import let_go
from workbench.progress import Progress, Steps, within
from workbench.quantizers.driving.schemes import complete_scheme, label_of
from workbench.quantizers.weight import QuantizedWeight
from workbench.results import Result
from workbench.scheme import Scheme
from workbench.studies.choice import backend_of, find_matrices, quantize_assignment
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows, describe

SCHEMES_AT_MOST = 64


def schemes_for(
    quantizer: str, bits: Sequence[int], group_size: int, symmetric: bool, options: Mapping[str, Any] | None
) -> list[Scheme]:
    """One checked scheme a width, in the order given, each width once."""
    if not bits:
        raise WorkbenchError("no bits were given; choose among: 1, 2, 3, 4, 8")
    return [
        complete_scheme(Scheme(quantizer, width, group_size, symmetric, options or {})) for width in dict.fromkeys(bits)
    ]


def layer_error(
    loaded: LoadedModel,
    *,
    schemes: Sequence[Mapping[str, Any]],
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Quantize the model under every scheme and hold each matrix against the full one.

    The output error is exact on the calibration windows, from the Gram matrix of each input site: no forward is run
    per cell. Its inputs are those of the full model, also where the quantizer was fed others.

    Raises:
        WorkbenchError: no scheme, more than 64, a bad one, or whatever a quantizer refuses.
    """
    context = context or Context()
    if not 1 <= len(schemes) <= SCHEMES_AT_MOST:
        raise WorkbenchError(f"{len(schemes)} schemes were given; give 1 to {SCHEMES_AT_MOST}")
    chosen = list({label_of(one): one for one in map(complete_scheme, schemes)}.values())
    matrices = find_matrices(loaded)
    windows = calibration_windows(loaded, calibration, tokens, window)
    statistics = yield from within(collect(loaded, windows, needs={"gram"}, folder=context.statistics), 0.0, 0.2)
    rows, notes = [], []
    for place, scheme in enumerate(chosen):
        steps = quantize_assignment(loaded, {matrix.name: scheme for matrix in matrices}, windows, context)
        start, step = 0.2 + 0.8 * place / len(chosen), 0.8 / len(chosen)
        quantized = yield from within(steps, start, start + 0.9 * step)
        notes += [{"label": label_of(scheme), "matrix": name, "text": text} for name, text in quantized.notes.items()]
        let_go(loaded.model)  # products with a Gram matrix take as much as a block
        for done, matrix in enumerate(matrices):
            yield Progress(start + (0.9 + 0.1 * done / len(matrices)) * step, 1.0, f"{label_of(scheme)}: {matrix.name}")
            weight, gram = read_weight(loaded.model, matrix), statistics.gram_of(matrix)
            rows.append(_row(matrix, scheme, weight, quantized.weights[matrix.name], gram))
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "schemes": [one.to_json() for one in chosen],
        "backend": backend_of(loaded),
        "calibration": describe(windows),
        "notes": notes,
        "cells": [{key: row[key] for key in row if key not in ("block", "role")} for row in rows],
    }
    return Result(document, {"layer_error": pd.DataFrame(rows)})


def _row(matrix: Matrix, scheme: Scheme, weight: Tensor, held: QuantizedWeight, gram: Tensor) -> dict[str, Any]:
    values = held.dequantize(torch.float32)
    return {
        "matrix": matrix.name,
        "block": matrix.block,
        "role": matrix.role,
        "parameters": matrix.parameters,
        "label": label_of(scheme),
        "quantizer": scheme.quantizer,
        "bits": scheme.bits,
        "group_size": scheme.group_size,
        "weight_error": weight_error(weight, values),
        "output_error": output_error_from_gram(weight, values, gram),
        "sqnr_db": sqnr_db(weight, values),
        "cosine": cosine(weight, values),
        "stored_bits": held.stored_bits,
        "nominal_bits": held.nominal_bits,
    }
