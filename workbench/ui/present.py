"""How results are shown: a chart with its words and its table, where a number came from, how a picture is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from workbench.ui.drawing import Drawing, plain
from workbench.ui.escape import cell, markdown
from workbench.ui.numbers import duration, number, percent, plural, size

__all__ = [
    "chart",
    "csv",
    "duration",
    "how_to_read",
    "notes",
    "number",
    "percent",
    "plot",
    "plural",
    "points",
    "provenance",
    "size",
    "table",
]

INK = {"light": "#1c2530", "dark": "#e8edf2"}
"""Text colours of the two themes, as in `.streamlit/config.toml`."""

_CHART = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}


def chart(
    figure: Drawing,
    *,
    alt: str,
    key: str,
    table_of: pd.DataFrame,
    file_name: str,
    selectable: bool = False,
    formats: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Draw a figure, its alternative text, and below it the same numbers as a table with a CSV file.

    Args:
        figure: what `workbench.figures` makes, as `drawing` stands for it.
        alt: the chart in one sentence with its numbers, for those who do not see it.
        key: unique on the page.
        table_of: the numbers that the figure shows.
        file_name: name of the CSV file.
        selectable: whether points can be clicked.
        formats: number format of a column, as `st.column_config.NumberColumn` takes it.

    Returns:
        The chosen points as Plotly describes them (each a dict with `customdata`), empty unless selectable.
    """
    state = plot(figure, alt=alt, key=key, on_select="rerun" if selectable else "ignore")
    table(table_of, key=f"{key}-table", file_name=file_name, formats=formats, alt=alt)
    return points(state) if selectable else []


def plot(figure: Drawing, *, alt: str, key: str, on_select: Any = "ignore") -> Any:
    """Draw a figure alone; returns its selection state. `on_select` is as `st.plotly_chart` takes it."""
    ready = plain(figure, INK[st.context.theme.type or "light"])
    return st.plotly_chart(ready, key=key, on_select=on_select, selection_mode="points", config=_CHART, alt=alt)


def points(state: Any) -> list[dict[str, Any]]:
    """The chosen points of a chart's selection state."""
    selection = state["selection"] if state else {}
    return list(selection["points"]) if selection else []


def table(
    frame: pd.DataFrame,
    *,
    key: str,
    file_name: str,
    formats: Mapping[str, str] | None = None,
    alt: str | None = None,
    label: str = "The same numbers as a table",
    expanded: bool = False,
    on_cell: Callable[[], None] | None = None,
) -> None:
    """A table that can be sorted and searched, folded away under a chart, with a CSV file of all its rows.

    With `on_cell` a single cell can be chosen, by mouse or keyboard; it is called as Streamlit's callbacks are.
    """
    chosen: dict[str, Any] = {} if on_cell is None else {"on_select": on_cell, "selection_mode": "single-cell"}
    with st.expander(f"{label} ({plural(len(frame), 'row')})", expanded=expanded):
        st.dataframe(frame, hide_index=True, key=key, column_config=columns(frame, formats), alt=alt or label, **chosen)
        st.download_button(
            "Download as CSV",
            lambda: csv(frame),
            file_name,
            "text/csv",
            key=f"{key}-csv",
            on_click="ignore",
            icon=":material/download:",
        )


def columns(frame: pd.DataFrame, formats: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Column titles in plain words, and number formats where they are given."""
    formats = formats or {}
    titles = {str(name): str(name).replace("_", " ") for name in frame.columns}
    return {
        name: st.column_config.NumberColumn(title, format=formats[name])
        if name in formats
        else st.column_config.Column(title)
        for name, title in titles.items()
    }


def csv(frame: pd.DataFrame) -> bytes:
    """The frame as CSV in UTF-8; text that a spreadsheet would run as a formula is defused."""
    return frame.map(cell).to_csv(index=False).encode("utf-8")


def notes(document: Mapping[str, Any]) -> None:
    """What a study says of its reading, such as that a prompt was cut; nothing where it says nothing."""
    for note in document.get("notes") or ():
        st.caption(markdown(note))


def how_to_read(text: str) -> None:
    """A folded explanation in our own Markdown; never put somebody else's text in it."""
    with st.expander("How to read this", icon=":material/help:"):
        st.markdown(text)


def provenance(facts: Mapping[str, Any]) -> None:
    """The line under a result that says what made it: model, text, method, reference, options; not the empty ones."""
    shown = [f"{markdown(name)}: {markdown(value)}" for name, value in facts.items() if value not in (None, "", {}, [])]
    st.caption("Where this comes from. " + "; ".join(shown))
