"""The parts of the Weight salience page: the map of all matrices, one matrix in detail, two metrics side by side."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from workbench.figures.blocks import block_map
from workbench.figures.frames import keep
from workbench.figures.labels import role_labels
from workbench.figures.scores import channel_profile, coverage_curve, metric_scatter, score_histogram
from workbench.ui import choices, compare, controls, picking, present, rows
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.sentences import place
from workbench.ui.study import Shown

MEASURES = {
    "mean": "mean score",
    "max": "largest score",
    "gini": "unevenness (Gini)",
    "top1pct_share": "share of the top 1 %",
}
"""Column of table `matrices` -> what it is."""

NOTHING = "nothing"
LEVELS = {"matrices": "all matrices", "channels": "channels of the chosen matrix"}


def map_choice() -> tuple[str, bool]:
    """Draw what the map shows; returns the column and whether its scale is logarithmic."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        measure = controls.segments("The map shows", list(MEASURES), "mean", key="summary", show=MEASURES.__getitem__)
        about = "Colour by the logarithm: for scores that differ by orders of magnitude."
        logarithmic = controls.toggle("Logarithmic colours", True, key="log", help=about)
    return measure, logarithmic


def matrix_choice(frame: pd.DataFrame, column: str) -> str:
    """Draw the choice of one matrix, at first the one with the largest value."""
    first = rows.largest(frame, column)["matrix"]
    return controls.select("Matrix in detail", list(frame["matrix"]), first, key="matrix")


def draw_map(frame: pd.DataFrame, metric: str, measure: str, logarithmic: bool, chosen: str) -> None:
    """One cell a matrix; a click, or a cell of the table, chooses the matrix."""
    names, unit = list(frame["matrix"]), f"{metric}: {MEASURES[measure]}"
    known = frame.dropna(subset=measure)
    words = f"{MEASURES[measure]} of {plural(len(frame), 'matrix', 'matrices')} by {metric}"
    if len(known):
        most, least = rows.largest(known, measure), rows.smallest(known, measure)
        words += f". Largest: {most['matrix']}, {number(most[measure])}; "
        words += f"smallest: {least['matrix']}, {number(least[measure])}"
    picking.chart(
        block_map(frame, value=measure, unit=unit, selected=chosen, logarithmic=logarithmic),
        alt=words + ".",
        key="salience-map",
        places=[{"matrix": name} for name in names],
        table_of=frame,
        cell=lambda row, _: {"matrix": names[row]},
        file_name="salience-matrices.csv",
    )


def draw_matrix(shown: Shown, matrix: str, metric: str) -> None:
    """How the scores of one matrix are spread."""
    described = choices.described("salience", metric)
    counted = "weights" if described["traits"].get("granularity", "element") == "element" else "channels"
    row = rows.named(shown.tables["matrices"], "matrix", matrix)
    parts = {name: _part(shown.tables[name], matrix) for name in ("histogram", "channels", "coverage")}
    st.markdown(f"**In detail: {place(row)}**")
    st.write(coverage_sentence(parts["coverage"], row, counted))
    left, right = st.columns(2, gap="large")
    with left:
        _draw_coverage(parts["coverage"], counted)
    with right:
        _draw_histogram(parts["histogram"], metric, counted)
    _draw_channels(parts["channels"], metric)
    _draw_top_channels(shown.document, matrix)


def coverage_sentence(points: pd.DataFrame, row: rows.Row, counted: str) -> str:
    """How few weights hold how much, from the curve; safe in Markdown."""
    tenth = share_held(points, 0.1)
    half = share_needed(points, 0.5)
    return (
        f"The top 1 % of its {counted} hold {percent(row['top1pct_share'])} of the salience, the top 10 % hold "
        f"{percent(tenth)}; half of it lies in {percent(half)} of the {counted}. Spread evenly, it would be 1 %, 10 % "
        "and 50 %."
    )


def share_held(points: pd.DataFrame, share: float) -> float:
    """Share of the salience in the most salient `share`, between the points of the curve by straight lines."""
    return float(np.interp(share, points["weight_share"].to_numpy(), points["salience_share"].to_numpy()))


def share_needed(points: pd.DataFrame, share: float) -> float:
    """Share of the weights that holds this share of the salience."""
    return float(np.interp(share, points["salience_share"].to_numpy(), points["weight_share"].to_numpy()))


def _draw_coverage(points: pd.DataFrame, counted: str) -> None:
    st.markdown(f"How few {counted} hold most of the salience")
    present.chart(
        coverage_curve(points, counted=counted),
        alt=f"Share of the salience held by the most salient {counted}: the top 10 % hold "
        f"{percent(share_held(points, 0.1))}.",
        key="salience-coverage",
        table_of=points,
        file_name="salience-coverage.csv",
    )


def _draw_histogram(bins: pd.DataFrame, metric: str, counted: str) -> None:
    st.markdown("How large the scores are")
    if bins.empty:
        st.info("All scores of this matrix are zero, so that there is nothing to count.")
        return
    peak = rows.largest(bins, "count")
    present.chart(
        score_histogram(bins, unit=metric, counted=counted),
        alt=f"Histogram of log10 of {metric} over {len(bins)} bins; the fullest, from {number(peak['low'])} to "
        f"{number(peak['high'])}, has {int(peak['count']):,} {counted}.",
        key="salience-histogram",
        table_of=bins,
        file_name="salience-histogram.csv",
    )


def _draw_channels(channels: pd.DataFrame, metric: str) -> None:
    st.markdown("Where along its inputs the salience lies")
    first = rows.largest(channels, "score")
    present.chart(
        channel_profile(channels, unit=metric),
        alt=f"{metric} of {plural(len(channels), 'input channel')}; the largest is channel {int(first['channel'])} "
        f"with {number(first['score'])}, the median is {number(median(channels['score'].tolist()))}.",
        key="salience-channels",
        table_of=channels,
        file_name="salience-channels.csv",
    )


def _draw_top_channels(document: Mapping[str, Any], matrix: str) -> None:
    top = next(one["channels"]["top"] for one in document["matrices"] if one["name"] == matrix)
    frame = pd.DataFrame(top).rename(columns={"index": "channel"})
    label = "Its strongest input channels"
    present.table(frame, key="salience-top", file_name="salience-top-channels.csv", label=label)


def second_choice(metric: str) -> str:
    """Draw the choice of a metric to compare with; `NOTHING` at first."""
    offered = [name for name in choices.metrics() if name != metric]
    return controls.select("Compare with", [NOTHING, *offered], key="second", help="A second metric on the same text.")


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
        metric_scatter(frame, x=f"{names[0]}, {what}", y=f"{names[1]}, {what}", logarithmic=positive),
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
    held = _part(first.tables["channels"], matrix).rename(columns={"score": "first"})
    other = _part(second.tables["channels"], matrix).rename(columns={"score": "second"})
    both = held.merge(other, on="channel")
    return both.assign(label=[f"channel {channel}" for channel in both["channel"]], group=matrix).drop(
        columns="channel"
    )


def _part(frame: pd.DataFrame, matrix: str) -> pd.DataFrame:
    return keep(frame, frame["matrix"] == matrix).drop(columns="matrix").reset_index(drop=True)
