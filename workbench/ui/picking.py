"""Choosing by looking: a click on a chart, or a cell of its table, sets the choices that controls of the page hold.

The controls stay the one place where a choice lives, so that a click, the keyboard and an address all lead to the same
view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from workbench.ui import address, present, session
from workbench.ui.drawing import Drawing

Choices = Mapping[str, Any]
"""Key of a control -> the value that it takes."""


def chart(
    figure: Drawing,
    *,
    alt: str,
    key: str,
    places: Sequence[Choices],
    table_of: pd.DataFrame,
    cell: Callable[[int, str], Choices],
    file_name: str,
    formats: Mapping[str, str] | None = None,
) -> None:
    """Draw a chart whose points can be clicked, and its table whose cells can be chosen with the keyboard too.

    Args:
        figure: each point's `customdata` begins with its place in `places`.
        alt: the chart in one sentence.
        key: unique on the page.
        places: what a click on each point chooses.
        table_of: the numbers that the figure shows.
        cell: what a cell chooses, from the place of its row and the name of its column.
        file_name: name of the CSV file.
        formats: number format of a column.
    """
    present.plot(figure, alt=alt, key=key, on_select=partial(_take_point, key, places))
    present.table(
        table_of,
        key=f"{key}-table",
        file_name=file_name,
        formats=formats,
        alt=alt,
        label="The same as a table; choose a cell to see it in detail",
        on_cell=partial(_take_cell, f"{key}-table", len(table_of), cell),
    )


def _take_point(key: str, places: Sequence[Choices]) -> None:
    """A second click on a point takes Plotly's selection back; the point is meant all the same."""
    points = present.points(st.session_state[key])
    place = points[0]["customdata"][0] if points else session.recall(f"{key}-place")
    if isinstance(place, int) and 0 <= place < len(places):
        session.remember(f"{key}-place", place)
        _choose(places[place])


def _take_cell(key: str, rows: int, cell: Callable[[int, str], Choices]) -> None:
    cells = st.session_state[key]["selection"]["cells"]
    if cells and 0 <= int(cells[0][0]) < rows:
        _choose(cell(int(cells[0][0]), str(cells[0][1])))


def _choose(choices: Choices) -> None:
    for name, value in choices.items():
        address.put(name, value)
