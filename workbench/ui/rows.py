"""Single rows of a table as plain dicts, for sentences and numbers on a page. No Streamlit here."""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbench.figures.frames import keep

Row = dict[str, Any]


def largest(frame: pd.DataFrame, column: str) -> Row:
    """The row with the largest value of a column; the first one when no value is known."""
    return _first(frame.sort_values(column, ascending=False, kind="stable", na_position="last"))


def smallest(frame: pd.DataFrame, column: str) -> Row:
    """The row with the smallest value of a column; the first one when no value is known."""
    return _first(frame.sort_values(column, kind="stable", na_position="last"))


def named(frame: pd.DataFrame, column: str, value: object) -> Row:
    """The first row that has this value in a column; there must be one."""
    return _first(keep(frame, frame[column] == value))


def _first(frame: pd.DataFrame) -> Row:
    return {str(name): value for name, value in frame.head(1).to_dict("records")[0].items()}
