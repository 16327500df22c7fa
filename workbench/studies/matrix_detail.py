"""One matrix under one scheme, looked at closely: values before and after, error of every channel, grid, rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.measures.distribution import block_means, histogram
from workbench.measures.error import (
    channel_errors,
    cosine,
    output_error_from_gram,
    row_weight_errors,
    sqnr_db,
    weight_error,
)
from workbench.measures.grid import (
    near_boundary_share,
    near_boundary_share_of_levels,
    sign_flips,
    zeroed_share,
)
from workbench.model.load import LoadedModel
from workbench.model.matrices import read_weight
from workbench.model.statistics import collect
from workbench.progress import Steps, within
from workbench.quantizers.driving.schemes import complete_scheme, reads_text
from workbench.quantizers.weight import AffineWeight, QuantizedWeight
from workbench.results import Result
from workbench.studies.choice import find_matrices, quantize_assignment
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows, describe

BINS = 80
SHOWN_CHANNELS = 512
SHOWN_LEVELS = 256


def matrix_detail(
    loaded: LoadedModel,
    *,
    matrix: str,
    scheme: Mapping[str, Any],
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Look at one matrix before and after quantization.

    Channel errors are per output channel (row), each relative to its own full output; wide matrices are shown as means
    over neighbouring channels, 512 at most.
    """
    context = context or Context()
    chosen = complete_scheme(scheme)
    found = find_matrices(loaded, [matrix])[0]
    windows = calibration_windows(loaded, calibration, tokens, window)
    statistics = yield from within(collect(loaded, windows, needs={"gram"}, folder=context.statistics), 0.0, 0.4)
    # what reads a text may look at the other matrices too; what does not is not worth making for them
    names = [one.name for one in find_matrices(loaded)] if reads_text(chosen) else [matrix]
    steps = quantize_assignment(loaded, dict.fromkeys(names, chosen), windows, context)
    quantized = yield from within(steps, 0.4, 1.0)
    weight, gram, held = read_weight(loaded.model, found), statistics.gram_of(found), quantized.weights[matrix]
    values = held.dequantize(torch.float32)
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "matrix": matrix,
        "scheme": chosen.to_json(),
        "calibration": describe(windows),
        "shape": [found.rows, found.columns],
        "weight_error": weight_error(weight, values),
        "output_error": output_error_from_gram(weight, values, gram),
        "sqnr_db": sqnr_db(weight, values),
        "cosine": cosine(weight, values),
        "note": quantized.notes.get(matrix, ""),
        "stored_bits": held.stored_bits,
        "nominal_bits": held.nominal_bits,
        "sign_flips": sign_flips(weight, values),
        "zeroed_share": zeroed_share(weight, values),
        "near_boundary_share": _near_boundary(weight, held, values, chosen.bits),
        "levels_of": "group" if isinstance(held, AffineWeight) else "row",
    }
    tables = {
        "histogram": _histogram(weight, values),
        "channels": _channels(weight, values, gram),
        "levels": _levels(held, values),
    }
    return Result(document, tables)


def _histogram(weight: Tensor, values: Tensor) -> pd.DataFrame:
    low = min(weight.min().item(), values.min().item())
    high = max(weight.max().item(), values.max().item())
    high = high if high > low else low + 1e-8
    before, after = (histogram(part, low=low, high=high, bins=BINS) for part in (weight, values))
    return pd.DataFrame(
        {
            "low": before.low.tolist(),
            "high": before.high.tolist(),
            "original": before.count.tolist(),
            "quantized": after.count.tolist(),
        }
    )


def _channels(weight: Tensor, values: Tensor, gram: Tensor) -> pd.DataFrame:
    output = block_means(channel_errors(weight, values, gram), SHOWN_CHANNELS)
    plain = block_means(row_weight_errors(weight, values), SHOWN_CHANNELS)
    return pd.DataFrame(
        {"channel": output.start.tolist(), "output_error": output.mean.tolist(), "weight_error": plain.mean.tolist()}
    )


def _near_boundary(weight: Tensor, held: QuantizedWeight, values: Tensor, bits: int | None) -> float | None:
    """Share of weights that rounding would have moved for a twentieth of a step; None where a row has several grids."""
    if isinstance(held, AffineWeight):
        return near_boundary_share(weight, held.packed.scale.float(), group_size=held.packed.group_size)
    width = math.ceil(held.nominal_bits) if bits is None else bits
    return near_boundary_share_of_levels(weight, values, levels=2**width)


def _levels(held: QuantizedWeight, values: Tensor) -> pd.DataFrame:
    """The grid of the first group of the first row, where the method has an affine grid, else the row's own values.

    A row with more than 256 different values has no small grid to show: the table is empty then.
    """
    if isinstance(held, AffineWeight):
        packed = held.packed
        group = values.shape[1] if packed.group_size == -1 else packed.group_size
        row = values[0, :group]
        zero = 2.0 ** (packed.bits - 1) if packed.zero is None else float(packed.zero[0, 0])
        grid = (torch.arange(2**packed.bits) - zero) * float(packed.scale[0, 0])
        counts = [(row - level).abs().lt(1e-12 + abs(level) * 1e-6).sum().item() for level in grid.tolist()]
        return pd.DataFrame({"value": grid.tolist(), "count": counts})
    distinct, counts = values[0].unique(return_counts=True)
    shown = len(distinct) if len(distinct) <= SHOWN_LEVELS else 0
    return pd.DataFrame({"value": distinct[:shown].tolist(), "count": counts[:shown].tolist()})
