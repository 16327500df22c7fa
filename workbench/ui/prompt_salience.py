"""The part "Is a prompt covered?": the weights that matter for a prompt against those of the calibration text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.blocks import block_map
from workbench.figures.scores import metric_scatter
from workbench.ui import compare, controls, picking, present, rows
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.salience import part_of
from workbench.ui.study import Shown

MEASURES = {
    "overlap": "shared salient channels",
    "weight_overlap": "shared salient weights",
    "spearman": "rank correlation of channels",
}
"""Column of table `prompt_coverage` -> what it is."""


def draw(shown: Shown, matrix: str | None) -> None:
    """Verdict, the three numbers beside those of passages, the map of matrices and the channels of one.

    Args:
        shown: the study `prompt_coverage`.
        matrix: the matrix that the page looks at; the first one when there is none.
    """
    document, frame = shown.document, shown.tables["prompt_coverage"]
    answer, _, numbers = document["verdict"].partition(": ")
    st.markdown(f"**{markdown(answer)}:** {markdown(numbers)}" if numbers else markdown(answer))
    for column, (name, words) in zip(st.columns(len(MEASURES)), MEASURES.items(), strict=True):
        value = document["prompt_summary"][name]
        column.metric(
            words.capitalize(),
            _written(name, value),
            help=f"{plural(len(document['passages']), 'passage')} of {document['passage_tokens']} tokens of the "
            f"calibration text: {spread(name, document['passages'])}.",
        )
        column.caption(f"passages of the text: {spread(name, document['passages'])}")
    measure = controls.segments("Each matrix by", list(MEASURES), "spearman", key="covered", show=MEASURES.__getitem__)
    names = [str(name) for name in frame["matrix"]]
    chosen = matrix if matrix is not None and matrix in names else names[0]
    _draw_map(frame, measure, chosen)
    _draw_channels(shown.tables["channels"], chosen)


def spread(name: str, passages: Sequence[dict[str, Any]]) -> str:
    """Least to largest value of a measure over the passages."""
    known = [one[name] for one in passages if one[name] is not None]
    return f"{_written(name, min(known))} to {_written(name, max(known))}" if known else "none that is long enough"


def _written(name: str, value: float | None) -> str:
    return number(value, 2) if name == "spearman" else percent(value)


def _draw_map(frame: pd.DataFrame, measure: str, chosen: str) -> None:
    names, unit = list(frame["matrix"]), MEASURES[measure]
    least = rows.smallest(frame, measure)
    picking.chart(
        drawing(block_map, frame, value=measure, unit=unit, selected=chosen, logarithmic=False),
        alt=f"{unit} between prompt and calibration text, of {plural(len(frame), 'matrix', 'matrices')}. Least: "
        f"{least['matrix']} with {_written(measure, least[measure])}.",
        key="coverage-map",
        places=[{"matrix": name} for name in names],
        table_of=frame,
        cell=lambda row, _: {"matrix": names[row]},
        file_name="prompt-coverage.csv",
    )


def _draw_channels(channels: pd.DataFrame, matrix: str) -> None:
    frame = part_of(channels, matrix).rename(columns={"calibration_score": "first", "prompt_score": "second"})
    frame = frame.assign(label=[f"channel {channel}" for channel in frame["channel"]], group=matrix)
    correlation = compare.rank_agreement(frame["first"].tolist(), frame["second"].tolist())
    st.write(
        f"The calibration text and the prompt put the input channels of **{markdown(matrix)}** in "
        f"{compare.agreement_words(correlation)} (Spearman's correlation {number(correlation, 2)})."
    )
    positive = bool((frame[["first", "second"]] > 0).to_numpy().all())
    unit = "share of the salience on the"
    present.chart(
        drawing(metric_scatter, frame, x=f"{unit} calibration text", y=f"{unit} prompt", logarithmic=positive),
        alt=f"{plural(len(frame), 'input channel')} of {matrix}: its share of the salience on the calibration text and "
        f"on the prompt; rank correlation {number(correlation, 2)}.",
        key="coverage-channels",
        table_of=frame.drop(columns=["label", "group"]).rename(
            columns={"first": "calibration text", "second": "prompt"}
        ),
        file_name="prompt-coverage-channels.csv",
    )
