"""A salience metric over every matrix, reduced to what people and charts can take in."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import save_file
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import DampingRaised, gini
from workbench.measures.concentration import coverage, top_share
from workbench.measures.distribution import block_means, log10_histogram
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.statistics import SiteStatistics, collect
from workbench.progress import Progress, Steps, within
from workbench.registry import Method
from workbench.registry import salience as metrics
from workbench.results import Result
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows, describe

SHOWN_CHANNELS = 512
TOP_CHANNELS = 10
HISTOGRAM = ["matrix", "low", "high", "count"]


def salience(
    loaded: LoadedModel,
    *,
    metric: str = "activation",
    options: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    tensors: Path | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Score every matrix with one metric.

    Args:
        loaded: the model.
        metric: name in the registry.
        options: the metric's own options.
        calibration: text that feeds the statistics.
        tokens: cap of its tokens.
        window: tokens of one sequence.
        scheme: only for metrics that compare full and quantized weights.
        plan: likewise.
        tensors: safetensors file for the full score tensors, one a matrix.
        context: what the process shares.
    """
    context = context or Context()
    method = metrics.get(metric)
    if (scheme is not None or plan is not None) and not method.traits.get("compares_quantized"):
        raise WorkbenchError(f"metric {metric!r} looks at the full weights; it takes no quantizer and no plan")
    chosen = method.parse_options(options)
    matrices = find_matrices(loaded)
    statistics, facts = None, None
    if method.needs:
        windows = calibration_windows(loaded, calibration, tokens, window)
        facts = describe(windows)
        statistics = yield from within(
            collect(loaded, windows, needs=set(method.needs), folder=context.statistics), 0.0, 0.7
        )
    rows, parts, full, notes = [], _Parts(), {}, []
    for done, matrix in enumerate(matrices):
        yield Progress(0.7 + 0.3 * done / len(matrices), 1.0, f"{metric} of {matrix.name}")
        stats = statistics.of(matrix) if statistics is not None else None
        scores, raised = _score(method, read_weight(loaded.model, matrix), stats, chosen)
        notes += [f"{matrix.name}: {note}" for note in raised]
        rows.append(_summary(matrix, scores, parts))
        if tensors is not None:
            full[matrix.name] = scores.contiguous()
    if tensors is not None:
        _write_tensors(full, tensors, method)
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "metric": metric,
        "options": chosen,
        "calibration": facts,
        "notes": notes,
        "matrices": rows,
    }
    return Result(document, parts.tables(rows, matrices))


def _score(
    method: Method, weight: Tensor, stats: SiteStatistics | None, options: Mapping[str, Any]
) -> tuple[Tensor, list[str]]:
    """The scores, and what the metric had to change to get them (a raised damping)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DampingRaised)
        scores = method(weight, stats, **options)
    return scores, [str(warning.message) for warning in caught if issubclass(warning.category, DampingRaised)]


class _Parts:
    """Collects the tidy tables while the matrices go by, so that no score tensor outlives its turn."""

    def __init__(self) -> None:
        self.channels: list[pd.DataFrame] = []
        self.histogram: list[pd.DataFrame] = []
        self.coverage: list[pd.DataFrame] = []

    def add(self, matrix: Matrix, scores: Tensor, channels: Tensor) -> None:
        reduced = block_means(channels, SHOWN_CHANNELS)
        self.channels.append(
            pd.DataFrame({"matrix": matrix.name, "channel": reduced.start.tolist(), "score": reduced.mean.tolist()})
        )
        bins = log10_histogram(scores)
        if bins is not None:
            facts = {"low": bins.low.tolist(), "high": bins.high.tolist(), "count": bins.count.tolist()}
            self.histogram.append(pd.DataFrame({"matrix": matrix.name, **facts}))
        weights, mass = coverage(scores)
        self.coverage.append(
            pd.DataFrame({"matrix": matrix.name, "weight_share": weights.tolist(), "salience_share": mass.tolist()})
        )

    def tables(self, rows: list[dict[str, Any]], matrices: list[Matrix]) -> dict[str, pd.DataFrame]:
        summary = pd.DataFrame(
            [
                {
                    "matrix": matrix.name,
                    "block": matrix.block,
                    "role": matrix.role,
                    **{key: row[key] for key in ("mean", "max", "gini", "top1pct_share")},
                }
                for matrix, row in zip(matrices, rows, strict=True)
            ]
        )
        return {
            "matrices": summary,
            "channels": pd.concat(self.channels, ignore_index=True),
            "histogram": pd.concat(self.histogram or [pd.DataFrame(columns=HISTOGRAM)], ignore_index=True),
            "coverage": pd.concat(self.coverage, ignore_index=True),
        }


def _summary(matrix: Matrix, scores: Tensor, parts: _Parts) -> dict[str, Any]:
    scores = scores.float()
    channels = scores.sum(0) if scores.ndim == 2 else scores
    parts.add(matrix, scores, channels)
    top = channels.topk(min(TOP_CHANNELS, channels.numel()))
    return {
        "name": matrix.name,
        "mean": scores.mean().item(),
        "max": scores.max().item(),
        "gini": gini(scores),
        "top1pct_share": top_share(scores, 0.01),
        "channels": {
            "top": [
                {"index": index, "score": score}
                for index, score in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            ]
        },
    }


def _write_tensors(full: dict[str, Tensor], path: Path, method: Method) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(full, partial, metadata={"metric": method.name, "reference": method.reference})
        partial.replace(path)
    except OSError as error:
        raise WorkbenchError(f"tensors could not be written to {str(path)[:80]!r}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
