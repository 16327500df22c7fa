"""Scores summed to groups, channels and whole matrices, and a coarse picture of each matrix: outputs by inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from workbench.measures.concentration import coverage, top_share
from workbench.measures.distribution import log10_histogram
from workbench.model.matrices import Matrix
from workbench.ordering import gini
from workbench.scheme import Scheme

GROUP = 64
"""Neighbouring inputs of a group where no quantizer says how many."""

CELLS = (128, 64)
"""Most cells of a matrix's picture: blocks of outputs, blocks of inputs."""

ALL_CELLS = 2**18
"""Most cells of all pictures together; with many matrices each has fewer."""


def group_of(assignment: dict[str, Scheme] | None) -> int:
    """Inputs of a group: that of the quantizer, if all matrices have the same one, else 64."""
    sizes = {scheme.group_size for scheme in (assignment or {}).values()}
    size = sizes.pop() if len(sizes) == 1 else GROUP
    return size if size > 0 else GROUP


class ScopeTables:
    """Collects tables while matrices go by; all sums are of absolute scores.

    Args:
        group: neighbouring inputs whose scores are summed for scope `group`.
        matrices: how many there will be.
    """

    def __init__(self, group: int, matrices: int) -> None:
        self.group = group
        self._limits = _limits(matrices)
        self._rows: list[dict[str, Any]] = []
        self._totals: list[tuple[Matrix, float]] = []
        self._histogram: list[pd.DataFrame] = []
        self._coverage: list[pd.DataFrame] = []
        self._pictures: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, matrix: Matrix, scores: Tensor) -> None:
        """Take in the scores of a matrix: one a weight, one a channel, or a single one."""
        size = scores.float().abs()
        self._totals.append((matrix, float(size.double().sum())))
        if size.ndim == 2:
            self._add(matrix, "group", group_sums(size, self.group))
            self._add(matrix, "channel", size.sum(0))
            self._pictures.append((matrix.name, *picture(size, *self._limits)))

    def _add(self, matrix: Matrix, scope: str, sums: Tensor) -> None:
        facts = {
            "mean": sums.double().mean().item(),
            "max": sums.max().item(),
            "gini": gini(sums),
            "top1pct_share": top_share(sums, 0.01),
        }
        held = {"matrix": matrix.name, "block": matrix.block, "role": matrix.role, "scope": scope}
        self._rows.append({**held, **facts})
        self._spread({"matrix": matrix.name, "scope": scope}, sums)

    def _spread(self, about: dict[str, Any], sums: Tensor) -> None:
        bins = log10_histogram(sums, bins=max(8, min(64, sums.numel() // 4)))
        if bins is not None:
            held = {"low": bins.low.tolist(), "high": bins.high.tolist(), "count": bins.count.tolist()}
            self._histogram.append(pd.DataFrame({**about, **held}))
        weights, mass = coverage(sums)
        self._coverage.append(
            pd.DataFrame({**about, "weight_share": weights.tolist(), "salience_share": mass.tolist()})
        )

    def frames(self) -> dict[str, pd.DataFrame]:
        """`scopes`, `scope_histogram`, `scope_coverage` and `picture`; the whole model's rows have no matrix."""
        self._spread({"matrix": None, "scope": "matrix"}, torch.tensor([total for _, total in self._totals]))
        totals = [
            {"matrix": one.name, "block": one.block, "role": one.role, "scope": "matrix", "mean": total, "max": total}
            for one, total in self._totals
        ]
        empty = pd.DataFrame(columns=["matrix", "scope", "low", "high", "count"])
        return {
            "scopes": pd.DataFrame([*self._rows, *totals]).reindex(columns=SCOPE_COLUMNS),
            "scope_histogram": pd.concat(self._histogram or [empty], ignore_index=True),
            "scope_coverage": pd.concat(self._coverage, ignore_index=True),
            "picture": self._picture_frame(),
        }

    def _picture_frame(self) -> pd.DataFrame:
        names = [name for name, *_ in self._pictures]
        counts = [cells.size for *_, cells in self._pictures]
        matrix = pd.Categorical.from_codes(np.repeat(np.arange(len(names)), counts).tolist(), names)
        columns: dict[str, list[np.ndarray]] = {"output": [], "input": [], "score": []}
        for _, outputs, inputs, cells in self._pictures:
            columns["output"].append(np.repeat(outputs, len(inputs)))
            columns["input"].append(np.tile(inputs, len(outputs)))
            columns["score"].append(cells.ravel())
        none = [np.zeros(0, dtype=np.float32)]
        return pd.DataFrame({"matrix": matrix} | {key: np.concatenate(all_ or none) for key, all_ in columns.items()})


SCOPE_COLUMNS = ["matrix", "block", "role", "scope", "mean", "max", "gini", "top1pct_share"]


def group_sums(size: Float[Tensor, "out in"], group: int) -> Float[Tensor, "out group"]:
    """Sums over runs of `group` neighbouring inputs of each row; the last run may be shorter."""
    missing = -size.shape[1] % group
    return pad(size, (0, missing)).reshape(size.shape[0], -1, group).sum(-1)


def picture(size: Float[Tensor, "out in"], rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matrix as at most `rows` x `columns` cells, each the mean over equal runs of outputs and inputs.

    Returns:
        First output of every row of cells, first input of every column, and the means [rows, columns], float32.
    """
    runs = [math.ceil(length / limit) for length, limit in zip(size.shape, (rows, columns), strict=True)]
    bands = torch.stack([part.mean(0) for part in size.split(runs[0])])
    cells = torch.stack([part.mean(1) for part in bands.split(runs[1], dim=1)], dim=1)
    outputs, inputs = (np.arange(0, length, run, dtype=np.int32) for length, run in zip(size.shape, runs, strict=True))
    return outputs, inputs, cells.cpu().numpy().astype(np.float32)


def _limits(matrices: int) -> tuple[int, int]:
    rows, columns = CELLS
    while matrices * rows * columns > ALL_CELLS and rows * columns > 64:
        rows, columns = (rows // 2, columns) if rows > columns else (rows, columns // 2)
    return rows, columns
