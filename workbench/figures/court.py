"""Predicted against measured: ratios of the totals, a point a matrix with the diagonal, curves of detached weights."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.labels import literal
from workbench.figures.style import category, finish

LINE = "#808080"


def ratio_dots(frame: pd.DataFrame) -> go.Figure:
    """Predicted over measured joint change of every metric, on a logarithmic axis with a line at 1; a mark a width.

    Args:
        frame: columns `metric`, `bits`, `ratio` (above zero; a wrong sign cannot be drawn and is left out).
    """
    figure = go.Figure()
    for place, (bits, part) in enumerate(frame.groupby("bits")):
        colour, symbol = category(place)
        figure.add_scatter(
            x=part["ratio"],
            y=[literal(name) for name in part["metric"]],
            mode="markers",
            name=f"{bits} bits",
            marker={"color": colour, "symbol": symbol, "size": 12, "line": {"width": 1, "color": "#333333"}},
            hovertemplate="%{y}<br>%{x:.4g} of the measured change<extra>" + f"{bits} bits</extra>",
        )
    figure.add_vline(x=1, line={"color": LINE, "width": 2, "dash": "dash"})
    figure.update_xaxes(type="log", minorloglabels="none")
    figure.update_yaxes(autorange="reversed")
    return finish(figure, x="predicted change / measured change", y="", height=140 + 40 * len(set(frame["metric"])))


def cell_scatter(frame: pd.DataFrame, *, unit: str, diagonal: bool) -> go.Figure:
    """A point a matrix and width, measured against predicted, both logarithmic; on the diagonal they agree.

    Args:
        frame: columns `matrix`, `bits`, `predicted`, `measured`, all numbers above zero.
        unit: what is predicted.
        diagonal: draw the line where both are equal; without a common unit there is none.
    """
    figure = go.Figure()
    for place, (bits, part) in enumerate(frame.groupby("bits")):
        colour, symbol = category(place)
        figure.add_scatter(
            x=part["measured"],
            y=part["predicted"],
            mode="markers",
            name=f"{bits} bits",
            customdata=[literal(name) for name in part["matrix"]],
            marker={"color": colour, "symbol": symbol, "size": 9, "opacity": 0.85},
            hovertemplate="%{customdata}<br>measured %{x:.4g}<br>predicted %{y:.4g}<extra>" + f"{bits} bits</extra>",
        )
    if diagonal and len(frame):
        both = pd.concat([frame["measured"], frame["predicted"]])
        ends = [both.min(), both.max()]
        figure.add_scatter(
            x=ends, y=ends, mode="lines", line={"color": LINE, "dash": "dash"}, hoverinfo="skip", showlegend=False
        )
    figure.update_xaxes(type="log", minorloglabels="none")
    figure.update_yaxes(type="log", minorloglabels="none")
    return finish(figure, x="measured rise of the loss, nats", y=unit, height=440)


def detach_curves(frame: pd.DataFrame, *, value: str, unit: str) -> go.Figure:
    """The loss that is left when a share of the weights stays at full precision, one line a metric.

    Args:
        frame: columns `metric`, `share` (of one), and the value; random last.
        value: name of the value column.
        unit: what the value is.
    """
    figure = go.Figure()
    for place, (metric, part) in enumerate(frame.groupby("metric", sort=False)):
        colour, symbol = category(place)
        floor = metric == "random"
        figure.add_scatter(
            x=100 * part["share"],
            y=part[value],
            mode="lines+markers",
            name=literal(str(metric)),
            line={"color": LINE if floor else colour, "dash": "dash" if floor or place >= 8 else "solid"},
            marker={"symbol": symbol, "size": 8, "color": LINE if floor else colour},
            hovertemplate=f"{literal(str(metric))}<br>%{{x:.3g}} % kept<br>%{{y:.4g}}<extra></extra>",
        )
    figure.update_xaxes(type="log", minorloglabels="none")
    return finish(figure, x="% of the weights kept at full precision", y=unit, height=460)
