"""Scores of matrices reduced to tidy tables: channels, histogram, the curve of how few weights hold how much."""

from __future__ import annotations

from typing import Any

import pandas as pd
from torch import Tensor

from workbench.measures.concentration import coverage, top_share
from workbench.measures.distribution import block_means, log10_histogram
from workbench.model.matrices import Matrix
from workbench.ordering import gini

SHOWN_CHANNELS = 512
TOP_CHANNELS = 10
HISTOGRAM = ["matrix", "low", "high", "count"]


class SalienceTables:
    """Collects rows while the matrices go by, so that no score tensor outlives its turn.

    Scores with a sign keep it in mean, largest score and total; what is told of their spread is of their sizes.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._matrices: list[Matrix] = []
        self._channels: list[pd.DataFrame] = []
        self._histogram: list[pd.DataFrame] = []
        self._coverage: list[pd.DataFrame] = []

    def add(self, matrix: Matrix, scores: Tensor) -> None:
        """Take in the scores of a matrix: one a weight, one a channel, or a single one."""
        scores = scores.float().reshape(1) if scores.ndim == 0 else scores.float()
        size = scores.abs()
        channels = size.sum(0) if scores.ndim == 2 else size
        self._matrices.append(matrix)
        self._add_tables(matrix, size, channels)
        top = channels.topk(min(TOP_CHANNELS, channels.numel()))
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        self.rows.append(
            {
                "name": matrix.name,
                "mean": scores.double().mean().item(),
                "max": scores.max().item(),
                "total": scores.double().sum().item(),
                "gini": gini(size),
                "top1pct_share": top_share(size, 0.01),
                "channels": {"top": [{"index": index, "score": score} for index, score in pairs]},
            }
        )

    def _add_tables(self, matrix: Matrix, size: Tensor, channels: Tensor) -> None:
        reduced = block_means(channels, SHOWN_CHANNELS)
        self._channels.append(
            pd.DataFrame({"matrix": matrix.name, "channel": reduced.start.tolist(), "score": reduced.mean.tolist()})
        )
        bins = log10_histogram(size)
        if bins is not None:
            facts = {"low": bins.low.tolist(), "high": bins.high.tolist(), "count": bins.count.tolist()}
            self._histogram.append(pd.DataFrame({"matrix": matrix.name, **facts}))
        weights, mass = coverage(size)
        self._coverage.append(
            pd.DataFrame({"matrix": matrix.name, "weight_share": weights.tolist(), "salience_share": mass.tolist()})
        )

    def frames(self) -> dict[str, pd.DataFrame]:
        """`matrices`, `channels`, `histogram` and `coverage`."""
        summary = pd.DataFrame(
            [
                {
                    "matrix": matrix.name,
                    "block": matrix.block,
                    "role": matrix.role,
                    **{key: row[key] for key in ("mean", "max", "gini", "top1pct_share")},
                }
                for matrix, row in zip(self._matrices, self.rows, strict=True)
            ]
        )
        return {
            "matrices": summary,
            "channels": pd.concat(self._channels, ignore_index=True),
            "histogram": pd.concat(self._histogram or [pd.DataFrame(columns=HISTOGRAM)], ignore_index=True),
            "coverage": pd.concat(self._coverage, ignore_index=True),
        }
