"""What a score is of on the Weight salience page: a weight, a group of inputs, a channel, a whole matrix."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from workbench.figures.frames import keep
from workbench.figures.weight_map import weight_map
from workbench.ui import choices, controls, present, rows
from workbench.ui.drawing import drawing
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown

SCOPES = {"element": "weight", "group": "group of inputs", "channel": "input channel", "matrix": "matrix"}
COUNTED = {"element": "weights", "group": "groups", "channel": "channels", "matrix": "matrices"}
"""What has a score at each scope, in the plural."""

OFFERED = {"element": list(SCOPES), "channel": ["channel", "matrix"], "matrix": ["matrix"]}
"""Granularity of a metric -> the scopes that its scores can be summed to, its own first."""


@dataclass(frozen=True)
class Scoped:
    """The tables of a result at one scope.

    Attributes:
        scope: key of `SCOPES`.
        matrices: a row a matrix.
        histogram: bins of each matrix's scores; of all matrices at scope `matrix`.
        coverage: points of the curves, likewise.
        of: what a score is, such as `wanda, sum of 64 neighbouring inputs`.
    """

    scope: str
    matrices: pd.DataFrame
    histogram: pd.DataFrame
    coverage: pd.DataFrame
    of: str


def granularity(metric: str) -> str:
    """What a metric scores by itself: `element`, `channel` or `matrix`."""
    return choices.described("salience", metric)["traits"].get("granularity", "element")


def scope_choice(metric: str) -> str:
    """Draw what a score is summed to; a metric's own scope at first."""
    offered = OFFERED[granularity(metric)]
    about = "Scores are summed, by size, to a group of neighbouring inputs of a row, to an input channel or a matrix."
    return controls.segments(
        "A score is of a", offered, offered[0], key="scope", show=SCOPES.__getitem__, help=about
    )  # fmt: skip


def scoped(found: Shown, scope: str) -> Scoped:
    """The tables of a result of `salience` at a scope, or at its own where it is an older one of another metric."""
    metric = found.document["metric"]
    own = granularity(metric)
    scope = scope if scope in OFFERED[own] else own
    names = ("matrices", "histogram", "coverage")
    if scope == own and scope != "matrix":
        return Scoped(scope, *(found.tables[name] for name in names), of=metric)
    tables = [found.tables[name] for name in ("scopes", "scope_histogram", "scope_coverage")]
    parts = [keep(table, table["scope"] == scope).drop(columns="scope").reset_index(drop=True) for table in tables]
    sums = {
        "group": f"sum of {found.document['group_size']} neighbouring inputs",
        "channel": "sum of the channel",
        "matrix": "sum of the matrix",
    }
    return Scoped(scope, *parts, of=metric if own == scope else f"{metric}, {sums[scope]}")


def total_sentence(frame: pd.DataFrame, matrix: str, own: str) -> str:
    """What share of the whole model's salience a matrix holds; its place alone for a metric of one number a matrix."""
    row = rows.named(frame, "matrix", matrix)
    place = 1 + int((frame["mean"] > row["mean"]).sum())
    words = f"It is number {place} of {plural(len(frame), 'matrix', 'matrices')}, with {number(row['mean'])}"
    total = sum(frame["mean"].tolist())
    if own == "matrix" or total <= 0:
        return f"{words}."
    return (
        f"{words}: {percent(row['mean'] / total)} of the salience of all matrices. Sums grow with the number of "
        "weights, so large matrices come first."
    )


def draw_picture(found: Shown, matrix: str, logarithmic: bool) -> None:
    """Blocks of outputs by groups of inputs of one matrix; nothing for metrics that do not score single weights."""
    cells = found.tables["picture"]
    cells = keep(cells, cells["matrix"] == matrix).drop(columns="matrix").reset_index(drop=True)
    if cells.empty:
        return
    st.markdown("Where in the matrix it lies: outputs by inputs")
    most = rows.largest(cells, "score")
    spans = [_run(cells[name].unique().tolist()) for name in ("output", "input")]
    st.caption(f"Each cell is the mean over {plural(spans[0], 'output')} and {plural(spans[1], 'input')}.")
    present.chart(
        drawing(weight_map, cells, unit=found.document["metric"], logarithmic=logarithmic),
        alt=f"{plural(len(cells), 'cell')} of {spans[0]} outputs by {spans[1]} inputs, each the mean of its weights; "
        f"the brightest begins at output {int(most['output'])}, input {int(most['input'])}: {number(most['score'])}.",
        key="salience-picture",
        table_of=cells,
        file_name="salience-picture.csv",
    )


def _run(starts: list[int]) -> int:
    return starts[1] - starts[0] if len(starts) > 1 else 1
