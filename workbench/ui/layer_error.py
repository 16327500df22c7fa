"""The parts of the Layer error page: every matrix at every width, and one matrix under one width in detail."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import pandas as pd
import streamlit as st

from workbench.errors import WorkbenchError
from workbench.figures.errors import channel_errors, error_map, grid_levels, weight_histogram
from workbench.ui import controls, picking, present, rows
from workbench.ui.defaults import Spec, scheme_label
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown

ERRORS = {"output_error": "output error", "weight_error": "weight error", "sqnr_db": "signal to noise (dB)"}
"""Column of table `layer_error` -> what it is."""

WORST_IS_SMALL = ("sqnr_db",)
MANY = 300


def widths_of(scheme: Spec) -> list[int]:
    """The chosen widths.

    Raises:
        WorkbenchError: the quantizer has no choice of width, so that there is nothing to compare.
    """
    if scheme["bits"] is None:
        raise WorkbenchError(
            f"Quantizer {scheme['quantizer']!r} has a fixed width; this page compares widths, so choose another "
            "quantizer."
        )
    return scheme["bits"]


def error_choice() -> str:
    """Draw which error the map shows."""
    return controls.segments("The map shows", list(ERRORS), "output_error", key="error", show=ERRORS.__getitem__)


def cell_choice(frame: pd.DataFrame, error: str) -> tuple[str, int]:
    """Draw the choice of one matrix and one width, at first the worst cell."""
    worst = _worst(frame, error)
    widths = sorted(set(frame["bits"].astype(int)))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        matrix = controls.select(
            "Matrix in detail", list(dict.fromkeys(frame["matrix"])), str(worst["matrix"]), key="matrix"
        )
        bits = controls.segments("Bits", widths, int(worst["bits"]), key="bits", help="The width that is looked at.")
    return matrix, bits


def _worst(frame: pd.DataFrame, error: str) -> rows.Row:
    return rows.smallest(frame, error) if error in WORST_IS_SMALL else rows.largest(frame, error)


def draw_map(frame: pd.DataFrame, error: str, matrix: str, bits: int) -> None:
    """One cell a matrix and a width; a click, or a cell of the table, chooses both."""
    held = frame.reset_index(drop=True)
    held["bits"] = held["bits"].astype(int)
    cells = list(zip(held["matrix"].tolist(), held["bits"].tolist(), strict=True))
    worst = _worst(held, error)
    table = wide_table(held, error)
    names = list(table["matrix"])
    picking.chart(
        error_map(
            held,
            value=error,
            unit=ERRORS[error],
            logarithmic=error not in WORST_IS_SMALL,
            selected=cells.index((matrix, bits)) if (matrix, bits) in cells else None,
        ),
        alt=f"{ERRORS[error].capitalize()} of {plural(len(table), 'matrix', 'matrices')} at "
        f"{', '.join(map(str, sorted(set(held['bits']))))} bits. The worst is {worst['matrix']} at {worst['bits']} "
        f"bits, {number(worst[error])}.",
        key="error-map",
        places=[{"matrix": name, "bits": width} for name, width in cells],
        table_of=table,
        cell=lambda row, column: _chosen_cell(names[row], column),
        file_name="layer-error.csv",
    )
    present.table(held, key="error-all", file_name="layer-error-all.csv", label="All that was measured")


def wide_table(frame: pd.DataFrame, error: str) -> pd.DataFrame:
    """A row a matrix in the model's order, a column a width, called such as `2 bits`."""
    held: dict[str, dict[str, Any]] = {}
    for name, bits, value in zip(frame["matrix"], frame["bits"], frame[error], strict=True):
        held.setdefault(name, {"matrix": name})[f"{bits} bits"] = value
    widths = [f"{bits} bits" for bits in sorted(set(frame["bits"]))]
    return pd.DataFrame(list(held.values()), columns=["matrix", *widths])


def _chosen_cell(matrix: str, column: str) -> dict[str, Any]:
    """The choices that a cell of `wide_table` stands for; the column of names leaves the width as it is."""
    width = column.removesuffix(" bits")
    return {"matrix": matrix} | ({"bits": int(width)} if width.isdigit() else {})


def draw_detail(shown: Shown) -> None:
    """One matrix before and after."""
    document, tables = shown.document, shown.tables
    outputs, inputs = document["shape"]
    st.markdown(
        f"**{markdown(document['matrix'])}** ({outputs} by {inputs}), {markdown(scheme_label(document['scheme']))}"
    )
    _draw_numbers(document)
    left, right = st.columns(2, gap="large")
    with left:
        _draw_weights(tables["histogram"])
        _draw_levels(tables["levels"])
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
            "gives 10 %.",
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
        weight_histogram(bins),
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
        channel_errors(channels),
        alt=f"Relative error of {plural(len(channels), 'output channel')}; the worst is channel "
        f"{int(worst['channel'])} with {number(worst['output_error'])}, the median is "
        f"{number(median(channels['output_error'].tolist()))}.",
        key="detail-channels",
        table_of=channels,
        file_name="channel-errors.csv",
    )


def _draw_levels(levels: pd.DataFrame) -> None:
    if levels.empty or len(levels) > MANY:
        return
    st.markdown("The levels that one group of weights may take")
    used, values = sum(count > 0 for count in levels["count"]), levels["value"].tolist()
    present.chart(
        grid_levels(levels),
        alt=f"{plural(len(levels), 'level')} from {number(min(values))} to {number(max(values))}; "
        f"{used} of them are used by the first group of the first row.",
        key="detail-levels",
        table_of=levels,
        file_name="grid-levels.csv",
    )
