"""What every matrix loses at every width, alone: weight error, exact output error, SQNR, cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from workbench.errors import WorkbenchError
from workbench.measures.error import cosine, output_error_from_gram, sqnr_db, weight_error
from workbench.model.load import LoadedModel
from workbench.model.matrices import read_weight
from workbench.model.statistics import collect
from workbench.progress import Progress, Steps, within
from workbench.registry import quantizers
from workbench.results import Result
from workbench.scheme import Scheme
from workbench.studies.choice import backend_of, complete_scheme, find_matrices, quantize_matrix
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows, describe


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
    quantizer: str = "rtn",
    bits: Sequence[int] = (2, 3, 4, 8),
    group_size: int = 64,
    symmetric: bool = False,
    options: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Quantize every matrix at every width and measure it against the full one.

    The output error is exact on the calibration windows, from the Gram matrix of each input site: no forward is run
    per cell. Inputs are those of the full model.
    """
    context = context or Context()
    chosen = schemes_for(quantizer, bits, group_size, symmetric, options)
    matrices = find_matrices(loaded)
    windows = calibration_windows(loaded, calibration, tokens, window)
    needs = {"gram", *quantizers.get(quantizer).needs}
    statistics = yield from within(collect(loaded, windows, needs=needs, folder=context.statistics), 0.0, 0.4)
    rows = []
    for done, matrix in enumerate(matrices):
        weight, stats = read_weight(loaded.model, matrix), statistics.of(matrix)
        for place, scheme in enumerate(chosen):
            share = (done + place / len(chosen)) / len(matrices)
            yield Progress(0.4 + 0.6 * share, 1.0, f"{scheme.label}: {matrix.name}")
            held = quantize_matrix(weight, stats, scheme)
            values = held.dequantize(torch.float32)
            rows.append(
                {
                    "matrix": matrix.name,
                    "block": matrix.block,
                    "role": matrix.role,
                    "bits": scheme.bits,
                    "group_size": scheme.group_size,
                    "weight_error": weight_error(weight, values),
                    "output_error": output_error_from_gram(weight, values, statistics.gram_of(matrix)),
                    "sqnr_db": sqnr_db(weight, values),
                    "cosine": cosine(weight, values),
                    "stored_bits": held.stored_bits,
                    "nominal_bits": held.nominal_bits,
                }
            )
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "quantizer": quantizer,
        "symmetric": symmetric,
        "backend": backend_of(loaded),
        "calibration": describe(windows),
        "cells": [{key: row[key] for key in row if key not in ("block", "role")} for row in rows],
    }
    return Result(document, {"layer_error": pd.DataFrame(rows)})
