"""Two metrics on the same weights: every matrix, or every channel of one, by both."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.figures.labels import role_labels
from workbench.figures.scores import metric_scatter
from workbench.ui import compare, controls, present
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number
from workbench.ui.salience import MEASURES, part_of
from workbench.ui.study import Shown

LEVELS = {"matrices": "all matrices", "channels": "channels of the chosen matrix"}


def draw_comparison(first: Shown, second: Shown, names: tuple[str, str], measure: str, matrix: str) -> None:
    """Every matrix, or every channel of one matrix, by both metrics, and how far they agree on the order."""
    level = controls.segments("Compare", list(LEVELS), "matrices", key="level", show=LEVELS.__getitem__)
    frame = paired_matrices(first, second, measure) if level == "matrices" else paired_channels(first, second, matrix)
    agreement = compare.rank_agreement(frame["first"].tolist(), frame["second"].tolist())
    words = compare.agreement_words(agreement)
    st.write(
        f"**Rank agreement {number(agreement, 2)}** (Spearman's correlation: 1 is the same order, 0 is no relation): "
        f"{markdown(names[0])} and {markdown(names[1])} put {LEVELS[level]} in {words}."
    )
    positive = bool((frame[["first", "second"]] > 0).to_numpy().all())
    what = MEASURES[measure] if level == "matrices" else "sum of the channel"
    present.chart(
        drawing(metric_scatter, frame, x=f"{names[0]}, {what}", y=f"{names[1]}, {what}", logarithmic=positive),
        alt=f"Scores of {len(frame)} {level} by {names[0]} and by {names[1]}; rank agreement {number(agreement, 2)}.",
        key="salience-comparison",
        table_of=frame.drop(columns="group").rename(columns={"first": names[0], "second": names[1]}),
        file_name="salience-comparison.csv",
    )


def paired_matrices(first: Shown, second: Shown, measure: str) -> pd.DataFrame:
    """Columns `label`, `group` (the role), `first`, `second`, a row a matrix that both results have."""
    left = first.tables["matrices"]
    held = left.assign(group=role_labels(left)).rename(columns={measure: "first", "matrix": "label"})
    other = second.tables["matrices"].rename(columns={measure: "second", "matrix": "label"})
    return held[["label", "group", "first"]].merge(other[["label", "second"]], on="label")


def paired_channels(first: Shown, second: Shown, matrix: str) -> pd.DataFrame:
    """The same of the channels of one matrix; the group is the matrix."""
    held = part_of(first.tables["channels"], matrix).rename(columns={"score": "first"})
    other = part_of(second.tables["channels"], matrix).rename(columns={"score": "second"})
    both = held.merge(other, on="channel")
    return both.assign(label=[f"channel {channel}" for channel in both["channel"]], group=matrix).drop(
        columns="channel"
    )
