"""What a choice of quantization costs: perplexity, KL, agreement, and the error of every matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from workbench.measures.divergence import summarize_divergence
from workbench.measures.error import output_error_from_gram, weight_error
from workbench.measures.perplexity import paired_difference, summarize
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.statistics import Statistics, collect
from workbench.model.streaming import let_go
from workbench.progress import Progress, Steps, within
from workbench.quantizers.driver import Quantized
from workbench.quantizers.weight import QuantizedWeight
from workbench.results import Result
from workbench.scheme import UNTOUCHED
from workbench.studies.choice import account, find_matrices, quantize_assignment, read_assignment
from workbench.studies.context import Context
from workbench.studies.evaluate_parts import spread_windows
from workbench.studies.reference import Comparison, Reference, compare, reference
from workbench.studies.texts import calibration_windows, describe, evaluation_windows, keep_apart


def evaluate(
    loaded: LoadedModel,
    *,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    text: str | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Measure the full model, or a quantized one beside it, on the evaluation text.

    Weight and output errors come from the calibration text's Gram matrices; perplexity, KL and agreement from the
    evaluation text. The standard error is that of the mean loss over windows; of the loss *difference* it is paired.
    """
    context = context or Context()
    assignment = read_assignment(loaded, scheme, plan)
    if assignment is not None:
        keep_apart(loaded, calibration, text)
    windows = evaluation_windows(loaded, text, tokens, window)
    seen = None if assignment is None else calibration_windows(loaded, calibration, tokens, window)
    made = yield from within(spread_windows(loaded, windows, seen, assignment, context), 0.0, 0.6)
    full = made[0] if made else (yield from within(reference(loaded, windows), 0.0, 0.3))
    matrices = find_matrices(loaded)
    if assignment is None or seen is None:
        perfect = Comparison(full.losses, torch.zeros_like(full.losses), 1.0)
        return _result(full, perfect, matrices, Quantized(), [])
    quantized = yield from within(quantize_assignment(loaded, assignment, seen, context), 0.3, 0.6)
    statistics = yield from within(collect(loaded, seen, needs={"gram"}, folder=context.statistics), 0.6, 0.7)
    compared = made[1] if made else (yield from within(compare(full, quantized.dense()), 0.7, 0.9))
    errors = yield from within(_matrix_errors(loaded, matrices, quantized.weights, statistics), 0.9, 1.0)
    return _result(full, compared, matrices, quantized, errors)


def _matrix_errors(
    loaded: LoadedModel, matrices: list[Matrix], quantized: Mapping[str, QuantizedWeight], statistics: Statistics
) -> Steps[list[dict[str, Any]]]:
    let_go(loaded.model)  # products with a Gram matrix take as much as a block
    rows = []
    for done, matrix in enumerate(matrices):
        yield Progress(done, len(matrices), f"errors of {matrix.name}")
        held = quantized.get(matrix.name)
        if held is None:
            row = {"weight_error": 0.0, "output_error": 0.0, "stored_bits": float(UNTOUCHED)}
        else:
            weight, values = read_weight(loaded.model, matrix), held.dequantize(torch.float32)
            gram = statistics.gram_of(matrix)
            row = {
                "weight_error": weight_error(weight, values),
                "output_error": output_error_from_gram(weight, values, gram),
                "stored_bits": held.stored_bits,
            }
        rows.append({"name": matrix.name, **row})
    return rows


def _result(
    full: Reference,
    compared: Comparison,
    matrices: list[Matrix],
    quantized: Quantized,
    errors: list[dict[str, Any]],
) -> Result:
    summary, base = summarize(compared.losses), summarize(full.losses)
    difference = paired_difference(compared.losses, full.losses)
    bits = account(matrices, quantized.weights)
    kl = summarize_divergence(compared.kl)
    document = {
        "model": {"id": full.loaded.identity.id, "digest": full.loaded.identity.digest},
        "perplexity": summary.perplexity,
        "loss": summary.loss,
        "standard_error": summary.standard_error,
        "tokens": full.windows.tokens,
        "window": full.windows.window,
        "text": describe(full.windows),
        "reference": {"perplexity": base.perplexity, "loss": base.loss, "standard_error": base.standard_error},
        "delta_loss": difference.difference,
        "delta_standard_error": difference.standard_error,
        "kl_mean": kl.mean,
        "kl_p99": kl.p99,
        "top1_agreement": compared.agreement,
        "stored_bits": bits.stored_bits,
        "nominal_bits": bits.nominal_bits,
        "notes": quantized.notes,
        "matrices": errors,
    }
    windows = pd.DataFrame(
        {
            "window": range(len(full.losses)),
            "loss": compared.losses.double().mean(1).tolist(),
            "reference_loss": full.losses.double().mean(1).tolist(),
        }
    )
    table = pd.DataFrame(errors, columns=["name", "weight_error", "output_error", "stored_bits"])
    return Result(document, {"windows": windows, "matrices": table.rename(columns={"name": "matrix"})})
