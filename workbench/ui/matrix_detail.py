"""One matrix under one choice of quantizer and width: its weights before and after, its channels, its grid."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.errors import channel_errors, grid_levels, weight_histogram
from workbench.ui import present, rows
from workbench.ui.defaults import scheme_label
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown

LEVELS_OF = {
    "group": ("one group of weights", "the first group of the first row", "weights of the first group"),
    "row": ("one row of weights", "the first row", "weights of the first row"),
}
"""Whose levels a method shows: in a heading, in a sentence, on an axis."""


def draw(shown: Shown) -> None:
    """One matrix before and after."""
    document, tables = shown.document, shown.tables
    outputs, inputs = document["shape"]
    st.markdown(
        f"**{markdown(document['matrix'])}** ({outputs} by {inputs}), {markdown(scheme_label(document['scheme']))}"
    )
    if document["note"]:
        st.info(markdown(document["note"]), icon=":material/healing:")
    _draw_numbers(document)
    left, right = st.columns(2, gap="large")
    with left:
        _draw_weights(tables["histogram"])
        _draw_levels(tables["levels"], document["levels_of"])
    with right:
        _draw_channels(tables["channels"])


def _draw_numbers(document: Mapping[str, Any]) -> None:
    boundary = document["near_boundary_share"]
    facts = {
        "Output error": (percent(document["output_error"]), "Relative, on the calibration text."),
        "Weight error": (percent(document["weight_error"]), "Relative Frobenius norm of the difference."),
        "Signal to noise": (f"{number(document['sqnr_db'])} dB", "Of the weights; 6 dB more is half the error."),
        "Stored bits": (
            number(document["stored_bits"]),
            f"All that is stored, for each weight; the codes alone take {number(document['nominal_bits'])}.",
        ),
        "Signs turned": (percent(document["sign_flips"]), "Weights that came out with the opposite sign."),
        "Became zero": (percent(document["zeroed_share"]), "Weights that were not zero before."),
        "Near a boundary": (
            percent(boundary),
            "Weights that rounding would move to another level if they changed by a twentieth of a step; chance "
            "gives 10 %. Not told where the rows of a method have several grids at once.",
        ),
    }
    for part in (list(facts)[:4], list(facts)[4:]):
        for column, name in zip(st.columns(4), part, strict=False):
            value, about = facts[name]
            column.metric(name, value, help=about)


def _draw_weights(bins: pd.DataFrame) -> None:
    st.markdown("The weights before and after")
    used = sum(count > 0 for count in bins["quantized"])
    present.chart(
        drawing(weight_histogram, bins),
        alt=f"Histogram of the weights from {number(bins['low'].iloc[0])} to {number(bins['high'].iloc[-1])} before "
        f"and after quantization; afterwards {used} of {len(bins)} bins hold weights, before "
        f"{sum(count > 0 for count in bins['original'])}.",
        key="detail-histogram",
        table_of=bins,
        file_name="weights-before-after.csv",
    )


def _draw_channels(channels: pd.DataFrame) -> None:
    st.markdown("Which outputs suffer")
    worst = rows.largest(channels, "output_error")
    present.chart(
        drawing(channel_errors, channels),
        alt=f"Relative error of {plural(len(channels), 'output channel')}; the worst is channel "
        f"{int(worst['channel'])} with {number(worst['output_error'])}, the median is "
        f"{number(median(channels['output_error'].tolist()))}.",
        key="detail-channels",
        table_of=channels,
        file_name="channel-errors.csv",
    )


def _draw_levels(levels: pd.DataFrame, levels_of: str) -> None:
    heading, place, counted = LEVELS_OF[levels_of]
    st.markdown(f"The levels that {heading} may take")
    if levels.empty:
        st.caption("More than 256 different values in a row: this method has no small grid to show.")
        return
    used, values = sum(count > 0 for count in levels["count"]), levels["value"].tolist()
    present.chart(
        drawing(grid_levels, levels, counted=counted),
        alt=f"{plural(len(levels), 'level')} from {number(min(values))} to {number(max(values))}; "
        f"{used} of them are used by {place}.",
        key="detail-levels",
        table_of=levels,
        file_name="grid-levels.csv",
    )
