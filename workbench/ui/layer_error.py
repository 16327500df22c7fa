"""The map of the Layer error page: every matrix under every choice of quantizer and width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.errors import error_map
from workbench.figures.frames import keep
from workbench.ui import controls, picking, present, rows
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, plural

ERRORS = {"output_error": "output error", "weight_error": "weight error", "sqnr_db": "signal to noise (dB)"}
"""Column of table `layer_error` -> what it is."""

WORST_IS_SMALL = ("sqnr_db",)
NAMED = 8
"""Up to this many labels are named in a sentence."""


def error_choice() -> str:
    """Draw which error the map shows."""
    return controls.segments("The map shows", list(ERRORS), "output_error", key="error", show=ERRORS.__getitem__)


def labels_of(frame: pd.DataFrame) -> list[str]:
    """The choices of quantizer and width, in the order of the table."""
    return list(dict.fromkeys(frame["label"]))


def quantizer_of(frame: pd.DataFrame, label: str) -> str:
    """The quantizer of a choice."""
    return str(rows.named(frame, "label", label)["quantizer"])


def cell_choice(frame: pd.DataFrame, error: str) -> tuple[str, str]:
    """Draw the choice of one matrix and of one quantizer and width, at first the worst cell."""
    worst, labels = _worst(frame, error), labels_of(frame)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        matrix = controls.select(
            "Matrix in detail", list(dict.fromkeys(frame["matrix"])), str(worst["matrix"]), key="matrix"
        )
        label = controls.select("Quantizer and width in detail", labels, str(worst["label"]), key="label")
    return matrix, label


def _worst(frame: pd.DataFrame, error: str) -> rows.Row:
    return rows.smallest(frame, error) if error in WORST_IS_SMALL else rows.largest(frame, error)


def draw_map(frame: pd.DataFrame, error: str, matrix: str, label: str) -> None:
    """One cell a matrix and a choice; a click, or a cell of the table, chooses both."""
    held = frame.reset_index(drop=True)
    cells = list(zip(held["matrix"].tolist(), held["label"].tolist(), strict=True))
    worst, labels, table = _worst(held, error), labels_of(held), wide_table(held, error)
    names = list(table["matrix"])
    st.write(best_sentence(held, error))
    picking.chart(
        drawing(
            error_map,
            held,
            value=error,
            unit=ERRORS[error],
            logarithmic=error not in WORST_IS_SMALL,
            selected=cells.index((matrix, label)) if (matrix, label) in cells else None,
        ),
        alt=f"{ERRORS[error].capitalize()} of {plural(len(table), 'matrix', 'matrices')} under "
        f"{plural(len(labels), 'choice')} of quantizer and width: {named(labels)}. The worst is {worst['matrix']} "
        f"under {worst['label']}, {number(worst[error])}.",
        key="error-map",
        places=[{"matrix": name, "label": one} for name, one in cells],
        table_of=table,
        cell=lambda row, column: {"matrix": names[row]} | ({"label": column} if column in labels else {}),
        file_name="layer-error.csv",
    )
    present.table(held, key="error-all", file_name="layer-error-all.csv", label="All that was measured")


def best_sentence(frame: pd.DataFrame, error: str) -> str:
    """Which choice has the best median over the matrices at each width; safe in Markdown."""
    best: dict[int | None, tuple[float, str]] = {}
    sign = -1 if error in WORST_IS_SMALL else 1
    for label in labels_of(frame):
        part = keep(frame, frame["label"] == label)
        width, middle = part["bits"].iloc[0], median(part[error].astype(float).tolist())
        key = None if pd.isna(width) else int(width)
        if key not in best or sign * middle < sign * best[key][0]:
            best[key] = (middle, label)
    order = sorted(best, key=lambda width: (width is None, width))
    told = [f"**{markdown(best[key][1])}** ({number(best[key][0])})" for key in order]
    return f"The best median {ERRORS[error]} over the matrices, at each width: {', '.join(told)}."


def wide_table(frame: pd.DataFrame, error: str) -> pd.DataFrame:
    """A row a matrix in the model's order, a column a choice of quantizer and width, called by its label."""
    held: dict[str, dict[str, Any]] = {}
    for name, label, value in zip(frame["matrix"], frame["label"], frame[error], strict=True):
        held.setdefault(name, {"matrix": name})[label] = value
    return pd.DataFrame(list(held.values()), columns=["matrix", *labels_of(frame)])


def draw_notes(notes: Sequence[Mapping[str, str]]) -> None:
    """What quantizers had to change to give a result at all, such as a raised damping."""
    if not notes:
        return
    texts = list(dict.fromkeys(note["text"] for note in notes))
    st.info(
        f"For {plural(len(notes), 'cell')} the quantizer had to give way. {markdown(texts[0])}",
        icon=":material/healing:",
    )
    table = pd.DataFrame(list(notes))
    present.table(table, key="error-notes", file_name="layer-error-notes.csv", label="Where quantizers gave way")


def named(labels: Sequence[str]) -> str:
    """Labels for a sentence, the first few of many."""
    rest = len(labels) - NAMED
    return ", ".join(labels[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
