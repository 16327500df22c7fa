"""The parts of the Weight salience page: the map of all matrices, one matrix in detail."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from workbench.figures.blocks import block_map
from workbench.figures.frames import keep
from workbench.figures.scores import channel_profile, coverage_curve, score_histogram
from workbench.ui import controls, picking, present, rows, salience_scope
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.salience_scope import COUNTED, Scoped
from workbench.ui.sentences import place
from workbench.ui.study import Shown

MEASURES = {
    "mean": "mean score",
    "max": "largest score",
    "gini": "unevenness (Gini)",
    "top1pct_share": "share of the top 1 %",
}
"""Column of table `matrices` -> what it is."""

NOTES = 3


def map_choice(metric: str) -> tuple[str, str, bool]:
    """Draw what a score is of and what the map shows; returns scope, column and whether its scale is logarithmic."""
    scope = salience_scope.scope_choice(metric)
    measure = "mean"
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        if scope != "matrix":
            measure = controls.segments(
                "The map shows", list(MEASURES), "mean", key="summary", show=MEASURES.__getitem__
            )
        about = "Colour by the logarithm: for scores that differ by orders of magnitude."
        logarithmic = controls.toggle("Logarithmic colours", True, key="log", help=about)
    return scope, measure, logarithmic


def matrix_choice(frame: pd.DataFrame, column: str) -> str:
    """Draw the choice of one matrix, at first the one with the largest value."""
    first = rows.largest(frame, column)["matrix"]
    return controls.select("Matrix in detail", list(frame["matrix"]), first, key="matrix")


def draw_map(shown: Scoped, measure: str, logarithmic: bool, chosen: str) -> None:
    """One cell a matrix; a click, or a cell of the table, chooses the matrix."""
    frame, of = shown.matrices, shown.of
    names, unit = list(frame["matrix"]), of if shown.scope == "matrix" else f"{of}: {MEASURES[measure]}"
    known = frame.dropna(subset=measure)
    words = f"{unit} of {plural(len(frame), 'matrix', 'matrices')}"
    if len(known):
        most, least = rows.largest(known, measure), rows.smallest(known, measure)
        words += f". Largest: {most['matrix']}, {number(most[measure])}; "
        words += f"smallest: {least['matrix']}, {number(least[measure])}"
    picking.chart(
        drawing(block_map, frame, value=measure, unit=unit, selected=chosen, logarithmic=logarithmic),
        alt=words + ".",
        key="salience-map",
        places=[{"matrix": name} for name in names],
        table_of=frame,
        cell=lambda row, _: {"matrix": names[row]},
        file_name="salience-matrices.csv",
    )
    pale = sum(value <= 0 for value in frame[measure].tolist())
    if logarithmic and pale:
        st.caption(
            f"{plural(pale, 'matrix has', 'matrices have')} a value of zero or below and no colour on a logarithmic "
            "scale; switch logarithmic colours off to see them."
        )


def draw_notes(document: Mapping[str, Any]) -> None:
    """What the study has to say of its own numbers."""
    if document["signed"]:
        st.caption(
            "The scores of this metric have a sign: the map shows them with it, and what is told of their spread is "
            "of their sizes."
        )
    for note in document["notes"][:NOTES]:
        st.info(markdown(note))
    if len(document["notes"]) > NOTES:
        st.caption(f"And {len(document['notes']) - NOTES} more notes of this kind.")


def draw_matrix(found: Shown, shown: Scoped, matrix: str, logarithmic: bool) -> None:
    """How the scores of one matrix are spread; at scope `matrix`, its place among all and how those are spread."""
    metric, counted = found.document["metric"], COUNTED[shown.scope]
    row = rows.named(shown.matrices, "matrix", matrix)
    st.markdown(f"**In detail: {place(row)}**")
    if shown.scope == "matrix":
        st.write(salience_scope.total_sentence(shown.matrices, matrix, salience_scope.granularity(metric)))
        points, bins = (frame.drop(columns="matrix") for frame in (shown.coverage, shown.histogram))
    else:
        points, bins = with_exact_top(part_of(shown.coverage, matrix), row), part_of(shown.histogram, matrix)
        st.write(coverage_sentence(points, row, counted))
    left, right = st.columns(2, gap="large")
    with left:
        _draw_coverage(points, counted)
    with right:
        _draw_histogram(bins, shown.of, counted)
    if salience_scope.granularity(metric) != "matrix":
        _draw_channels(part_of(found.tables["channels"], matrix), metric)
        _draw_top_channels(found.document, matrix)
    salience_scope.draw_picture(found, matrix, logarithmic)


def coverage_sentence(points: pd.DataFrame, row: rows.Row, counted: str) -> str:
    """How few weights hold how much, from the curve; safe in Markdown."""
    tenth = share_held(points, 0.1)
    half = share_needed(points, 0.5)
    return (
        f"The top 1 % of its {counted} hold {percent(row['top1pct_share'])} of the salience, the top 10 % hold "
        f"{percent(tenth)}; half of it lies in {percent(half)} of the {counted}. Spread evenly, it would be 1 %, 10 % "
        "and 50 %."
    )


def with_exact_top(points: pd.DataFrame, row: rows.Row) -> pd.DataFrame:
    """The curve with the share of the top 1 % put in, which lies between its points where it bends most."""
    if pd.isna(row["top1pct_share"]) or len(points) < 3:
        return points
    exact = pd.DataFrame({"weight_share": [0.01], "salience_share": [row["top1pct_share"]]})
    return pd.concat([points, exact]).drop_duplicates("weight_share").sort_values("weight_share", ignore_index=True)


def share_held(points: pd.DataFrame, share: float) -> float:
    """Share of the salience in the most salient `share`, between the points of the curve by straight lines."""
    return float(np.interp(share, points["weight_share"].to_numpy(), points["salience_share"].to_numpy()))


def share_needed(points: pd.DataFrame, share: float) -> float:
    """Share of the weights that holds this share of the salience."""
    return float(np.interp(share, points["salience_share"].to_numpy(), points["weight_share"].to_numpy()))


def _draw_coverage(points: pd.DataFrame, counted: str) -> None:
    name = "all matrices" if counted == "matrices" else "this matrix"
    st.markdown(f"How few {counted} hold most of the salience")
    share = (
        controls.slider(f"The top % of the {counted}", 10.0, key="top", low=1.0, high=50.0, step=1.0, format="%g %%")
        / 100
    )
    held = share_held(points, share)
    st.markdown(f"The top **{percent(share)}** hold **{percent(held)}** of the salience.")
    present.chart(
        drawing(coverage_curve, points, counted=counted, marked=(share, held), name=name),
        alt=f"Share of the salience held by the most salient {counted}: the top {percent(share)} hold {percent(held)}.",
        key="salience-coverage",
        table_of=points,
        file_name="salience-coverage.csv",
    )


def _draw_histogram(bins: pd.DataFrame, metric: str, counted: str) -> None:
    st.markdown("How large the scores are")
    if bins.empty:
        st.info("All scores are zero, so that there is nothing to count.")
        return
    peak = rows.largest(bins, "count")
    present.chart(
        drawing(score_histogram, bins, unit=metric, counted=counted),
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
        drawing(channel_profile, channels, unit=metric),
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


def part_of(frame: pd.DataFrame, matrix: str) -> pd.DataFrame:
    """The rows of one matrix, without its name, numbered from 0."""
    return keep(frame, frame["matrix"] == matrix).drop(columns="matrix").reset_index(drop=True)
