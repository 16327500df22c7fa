"""Where salience metrics agree: every pair, matrix by matrix and over the whole model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.measures.distribution import block_means
from workbench.measures.ranking import rank_correlations, top_overlaps
from workbench.model.load import LoadedModel
from workbench.progress import Progress, Steps, within
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.results import Result
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context
from workbench.studies.scores import ask_for_weights, weight_scores
from workbench.studies.scoring import DEFAULT_SCHEME, gather
from workbench.studies.texts import describe

SAMPLED = 2**18
"""Weights of a matrix (or of the model) that are ranked at most: every n-th one, the same for all metrics."""
TOP = 0.01
SHOWN_CHANNELS = 512
TOKENS = 4096


def agreement(
    loaded: LoadedModel,
    *,
    metrics: Sequence[str] | None = None,
    scheme: Mapping[str, Any] | None = None,
    top: float = TOP,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Spearman's rank correlation and the overlap of the top weights, for every two metrics.

    Signed metrics are ranked by their absolute value. Agreement is no proof of being right: `court` and `detach` hold
    metrics against the measured loss.

    Args:
        loaded: the model.
        metrics: names, two at least; all that score single weights and need no second text when not given.
        scheme: for metrics that compare full and quantized weights; rtn, 3 bits, groups of 64 when not given.
        top: part of the weights whose overlap is counted.
        calibration: text that feeds the statistics.
        tokens: cap of its tokens.
        window: tokens of one sequence.
        context: what the process shares.

    Raises:
        WorkbenchError: fewer than two metrics, one that does not score single weights, or a bad share.
    """
    context = context or Context()
    chosen = complete_scheme(scheme or DEFAULT_SCHEME)
    asked = ask_for_weights(metrics)
    if len(asked) < 2:
        raise WorkbenchError(f"{len(asked)} metric was given; agreement needs two or more")
    if not 0 < top < 1:
        raise WorkbenchError(f"top has value {top!r}; give a part of one above 0 and below 1, such as 0.01")
    given = {"calibration": calibration, "tokens": tokens or TOKENS, "window": window, "scheme": chosen}
    material = yield from within(gather(loaded, asked, **given, context=context), 0.0, 0.15)
    scores = yield from within(weight_scores(loaded, asked, material), 0.15, 0.7)
    matrices = find_matrices(loaded)
    names = [one.method.name for one in asked]
    rows, channels = [], []
    for place, matrix in enumerate(matrices):
        yield Progress(0.7 + 0.25 * place / len(matrices), 1.0, f"ranks of {matrix.name}")
        parts = torch.stack([scores[name][matrix.name].flatten() for name in names])
        rows += _pairs(names, matrix.name, _sampled(parts), top)
        for name in names:
            reduced = block_means(scores[name][matrix.name].sum(0), SHOWN_CHANNELS)
            facts = {"channel": reduced.start.tolist(), "score": reduced.mean.tolist()}
            channels.append(pd.DataFrame({"metric": name, "matrix": matrix.name, **facts}))
    yield Progress(0.95, 1.0, "ranks over the whole model")
    whole = torch.stack([torch.cat([scores[name][m.name].flatten() for m in matrices]) for name in names])
    rows = [*_pairs(names, None, _sampled(whole), top), *rows]
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "metrics": names,
        "scheme": chosen.to_json(),
        "calibration": None if material.windows is None else describe(material.windows),
        "top": top,
        "pairs": [row for row in rows if row["matrix"] is None],
    }
    return Result(document, {"agreement": pd.DataFrame(rows), "channels": pd.concat(channels, ignore_index=True)})


def _sampled(scores: Tensor) -> Tensor:
    step = -(-scores.shape[1] // SAMPLED)
    return scores[:, ::step]


def _pairs(names: Sequence[str], matrix: str | None, scores: Tensor, top: float) -> Iterator[dict[str, Any]]:
    """A row for every ordered pair; a correlation with a constant ranking is None."""
    correlations, overlaps = rank_correlations(scores), top_overlaps(scores, top)
    for first, one in enumerate(names):
        for second, other in enumerate(names):
            value = float(correlations[first, second])
            yield {
                "metric": one,
                "other": other,
                "matrix": matrix,
                "spearman": value if value == value else None,
                "overlap": float(overlaps[first, second]),
            }
