"""Metrics against metrics: one coloured cell a pair, those that agree side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.heatmap import heat_map
from workbench.figures.labels import literal
from workbench.figures.style import MAGNITUDE, finish, signed_colour

ROW_HEIGHT = 30
NUMBERED = 26
"""Up to this many metrics the cells carry their numbers; more would not be legible."""

CORRELATIONS = [(0.0, signed_colour(-1)), (0.5, signed_colour(0)), (1.0, signed_colour(1))]
"""Pale enough at both ends for black numbers."""


def agreement_map(pairs: pd.DataFrame, order: Sequence[str], *, value: str, unit: str, selected: int) -> go.Figure:
    """A heat map of every two metrics; a click answers with the pair's place in the frame.

    Args:
        pairs: columns `metric` (the rows), `other` (the columns) and the value; None where there is none.
        order: the metrics from top to bottom and from left to right.
        value: `spearman`, coloured from -1 to 1, or `overlap`, from 0 to 1.
        unit: what the value is, for colour bar and hover boxes.
        selected: place in the frame of the pair that gets a frame around it.
    """
    places = {name: place for place, name in enumerate(order)}
    cells = pd.DataFrame(
        {
            "row": [places[name] for name in pairs["metric"]],
            "column": [places[name] for name in pairs["other"]],
            "value": pairs[value].astype(float).tolist(),
            "label": [f"{one} and {other}" for one, other in zip(pairs["metric"], pairs["other"], strict=True)],
        }
    )
    figure = heat_map(cells, unit=unit, logarithmic=False, selected=selected, row_height=ROW_HEIGHT)
    _recolour(figure, signed=value == "spearman", unit=unit)
    figure.update_traces(
        selector={"type": "scatter"},
        mode="markers+text" if len(order) <= NUMBERED else "markers",
        text=[_short(value) for value in cells["value"]],
        textposition="middle center",
        textfont={"size": 10, "color": _inks(cells["value"].tolist(), signed=value == "spearman")},
    )
    if value == "spearman":
        figure.update_shapes(line_color="#000000")  # the house's orange would not be seen on orange cells
    names = [literal(name) for name in order]
    figure.update_xaxes(side="top", tickangle=-60, tickvals=list(range(len(order))), ticktext=names)
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=names)
    return finish(figure, x="", y="", height=150 + ROW_HEIGHT * len(order))


def _recolour(figure: go.Figure, *, signed: bool, unit: str) -> None:
    """The same colours on every text and model: the scale has fixed ends."""
    low, ticks = (-1, [-1, -0.5, 0, 0.5, 1]) if signed else (0, [0, 0.25, 0.5, 0.75, 1])
    bar = {"title": {"text": literal(unit), "side": "right"}, "tickvals": ticks, "thickness": 14}
    bar["ticktext"] = [f"{tick:g}" for tick in ticks]
    scale = CORRELATIONS if signed else MAGNITUDE
    figure.update_traces(selector={"type": "heatmap"}, zmin=low, zmax=1, colorscale=scale, colorbar=bar)


def _inks(values: Sequence[float], *, signed: bool) -> list[str]:
    """Black on pale cells, white on the dark half of Cividis, grey where a cell has no colour."""
    dark = "#FFFFFF" if not signed else "#000000"
    return ["#767676" if value != value else dark if value < 0.47 else "#000000" for value in values]


def _short(value: float) -> str:
    """Two decimals without the zero in front, as tables of correlations have them."""
    if value != value:
        return ""
    text = f"{value:.2f}".replace("-", "\u2212")
    return text if abs(value) >= 0.995 else text.replace("0.", ".", 1)
