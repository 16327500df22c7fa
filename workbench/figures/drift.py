"""How far maps move as bits are taken away, and what becomes of the answers meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.frames import keep
from workbench.figures.labels import literal
from workbench.figures.style import category, finish

HEIGHT = 340
SIDESTEP = 0.05
"""Share of a step by which methods stand beside each other, so that their bars do not cover one another."""


def drift_curve(
    frame: pd.DataFrame, *, value: str, unit: str, floors: Mapping[str, float | None], selected: str | None = None
) -> go.Figure:
    """Agreement of the two models' maps by width: a line a method, with a bar from the worst prompt to the best.

    The band of a method's colour is its noise floor: two draws of the full model's map agree no better than it. For a
    method without chance it is the line at 1.

    Args:
        frame: columns `method`, `place` (of the width on the axis, from 0), `width` (as it is called) and the value,
            with `least` and `most` of the prompts.
        value: name of the value column.
        unit: what the value is.
        floors: method -> agreement of two draws of the full model.
        selected: name of the width that is shown in detail.
    """
    figure = go.Figure()
    methods = list(dict.fromkeys(frame["method"]))
    widths = dict(zip(frame["place"], frame["width"], strict=True))
    last = max(widths)
    _mark(figure, widths, selected)
    for index, method in enumerate(methods):
        colour, symbol = category(index)
        _add_floor(figure, floors.get(method), colour, last)
        part = keep(frame, frame["method"] == method).sort_values("place")
        aside = SIDESTEP * (index - (len(methods) - 1) / 2)
        figure.add_scatter(
            x=[place + aside for place in part["place"]],
            y=part[value],
            mode="lines+markers",
            name=literal(method),
            line={"color": colour, "width": 2},
            marker={"color": colour, "symbol": symbol, "size": 10},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (part["most"] - part[value]).tolist(),
                "arrayminus": (part[value] - part["least"]).tolist(),
                "color": colour,
                "thickness": 1,
                "width": 3,
            },
            customdata=[[literal(width)] for width in part["width"]],
            hovertemplate=f"%{{customdata[0]}}<br>{literal(unit)} %{{y:.3f}}<extra>{literal(method)}</extra>",
        )
    _name_widths(figure, widths)
    return finish(figure, x="", y=literal(unit), height=HEIGHT)


def answer_curve(
    frame: pd.DataFrame, *, value: str, unit: str, most: float | None = None, selected: str | None = None
) -> go.Figure:
    """What becomes of the answers by width, one line for all methods, under the curve of the maps.

    Args:
        frame: columns `place`, `width` and the value, a row a width.
        value: name of the value column.
        unit: what the value is.
        most: the largest value that there can be; by default the axis ends behind the largest that there is.
        selected: name of the width that is shown in detail.
    """
    figure = go.Figure()
    frame = frame.sort_values("place")
    widths = dict(zip(frame["place"], frame["width"], strict=True))
    _mark(figure, widths, selected)
    figure.add_scatter(
        x=frame["place"],
        y=frame[value],
        mode="lines+markers",
        line={"color": "#808080", "width": 2},
        marker={"color": "#808080", "size": 9},
        customdata=[[literal(width)] for width in frame["width"]],
        hovertemplate=f"%{{customdata[0]}}<br>{literal(unit)} %{{y:.3g}}<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )
    _name_widths(figure, widths)
    if most is None:
        figure.update_yaxes(rangemode="tozero", exponentformat="power")
    else:
        figure.update_yaxes(range=[0, most])
    return finish(figure, x="", y=literal(unit), height=220)


def _add_floor(figure: go.Figure, floor: float | None, colour: str, last: int) -> None:
    if floor is None:
        return
    ends: dict[str, Any] = {"x0": -0.4, "x1": last + 0.4, "layer": "below"}
    if floor < 1:
        figure.add_shape(type="rect", y0=floor, y1=1, fillcolor=colour, opacity=0.16, line_width=0, **ends)
    figure.add_shape(type="line", y0=floor, y1=floor, line={"color": colour, "width": 1, "dash": "dot"}, **ends)


def _mark(figure: go.Figure, widths: Mapping[int, str], selected: str | None) -> None:
    """A pale column behind the width that the rest of the page is about."""
    place = next((place for place, name in widths.items() if name == selected), None)
    if place is not None:
        figure.add_vrect(x0=place - 0.3, x1=place + 0.3, fillcolor="#808080", opacity=0.15, line_width=0, layer="below")


def _name_widths(figure: go.Figure, widths: Mapping[int, str]) -> None:
    places: Sequence[int] = sorted(widths)
    figure.update_xaxes(
        tickvals=places,
        ticktext=[literal(widths[place]) for place in places],
        range=[-0.4, max(places) + 0.4],
        zeroline=False,
    )
