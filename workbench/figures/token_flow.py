"""The groups of weights that carry a token: what each carries, and beside it what its rounding does."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.labels import literal
from workbench.figures.style import NEGATIVE, POSITIVE, finish

ROW_HEIGHT = 24
LEFT, RIGHT = (0.0, 0.56), (0.62, 1.0)
"""Where either half lies, as shares of the width."""

ERROR, LOST = "#56B4E9", "#000000"
TITLE_WIDTH = 11
"""Characters of a line of an axis title."""


def group_bars(frame: pd.DataFrame, *, unit: str) -> go.Figure:
    """A row a group, the strongest on top: flow to the left; to the right, where it is known, the relative error.

    On the flow stands a mark at what rounding leaves of it.

    Args:
        frame: columns `label`, `flow`, `group_relative_error` and `flow_lost`; the last two may be unknown.
        unit: what the flow is counted in.
    """
    places, known = list(range(len(frame))), bool(frame["group_relative_error"].notna().any())
    labels = [literal(label) for label in frame["label"]]
    figure = go.Figure()
    figure.add_bar(
        x=frame["flow"],
        y=places,
        orientation="h",
        name="carried",
        showlegend=False,
        marker={
            "color": [POSITIVE if flow > 0 else NEGATIVE for flow in frame["flow"]],
            "pattern": {"shape": ["" if flow > 0 else "/" for flow in frame["flow"]]},
        },
        customdata=labels,
        hovertemplate="%{customdata}<br>carries %{x:.4g}<extra></extra>",
    )
    if known:
        _add_rounding(figure, frame, places, labels)
    figure.add_vline(x=0, line={"color": "#808080", "width": 1})
    height = 120 + ROW_HEIGHT * len(frame)
    finish(figure, x="", y="", height=height)
    rows: dict[str, Any] = {"tickvals": places, "ticktext": labels, "range": [len(frame) - 0.5, -0.5]}
    layout: dict[str, Any] = {
        "xaxis": {
            "title": {"text": _in_lines(f"carried: {unit}"), "font": {"size": 11}},
            "domain": list(LEFT) if known else [0, 1],
        },
        "yaxis": rows | {"showgrid": False, "automargin": True},
        "bargap": 0.25,
    }
    if known:
        right = {"domain": list(RIGHT), "anchor": "y", "rangemode": "tozero", "tickformat": ".0%", "automargin": True}
        layout["xaxis2"] = right | {"title": {"text": _in_lines("error of the group's output"), "font": {"size": 11}}}
    figure.update_layout(layout)
    return figure


def _in_lines(title: str) -> str:
    """A title in short lines: two axes share the width."""
    return "<br>".join(literal(line) for line in wrap(title, TITLE_WIDTH))


def _add_rounding(figure: go.Figure, frame: pd.DataFrame, places: list[int], labels: list[str]) -> None:
    figure.add_scatter(
        x=frame["flow"] - frame["flow_lost"],
        y=places,
        mode="markers",
        name="what rounding leaves of it, to first order",
        marker={"symbol": "line-ns", "size": 16, "line": {"color": LOST, "width": 3}},
        customdata=labels,
        hovertemplate="%{customdata}<br>left after rounding: %{x:.4g}<extra></extra>",
    )
    figure.add_bar(
        x=frame["group_relative_error"],
        y=places,
        orientation="h",
        xaxis="x2",
        showlegend=False,
        marker={"color": ERROR},
        customdata=labels,
        hovertemplate="%{customdata}<br>error of its output: %{x:.1%}<extra></extra>",
    )
