"""The scores of one matrix: how they are distributed, which channels have them, how few weights hold most."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.labels import literal
from workbench.figures.style import category, finish


def score_histogram(bins: pd.DataFrame, *, unit: str, counted: str = "weights") -> go.Figure:
    """How many scores have which order of magnitude.

    Args:
        bins: columns `low`, `high` (log10 of the score) and `count`.
        unit: what a score is.
        counted: what has a score.
    """
    figure = go.Figure(
        go.Bar(
            x=(bins["low"] + bins["high"]) / 2,
            y=bins["count"],
            width=bins["high"] - bins["low"],
            marker={"color": category(0)[0], "line": {"width": 0}},
            hovertemplate=f"10^%{{x:.2f}}<br>%{{y:,}} {counted}<extra></extra>",
        )
    )
    figure.update_layout(bargap=0)
    return finish(figure, x=f"log10 of {literal(unit)}", y=counted, height=300)


def channel_profile(channels: pd.DataFrame, *, unit: str) -> go.Figure:
    """The salience of every input channel, in the order of the channels.

    Args:
        channels: columns `channel` and `score`.
        unit: what a score is.
    """
    colour, _ = category(0)
    figure = go.Figure(
        go.Scatter(
            x=channels["channel"],
            y=channels["score"],
            mode="lines",
            line={"color": colour, "width": 1.5, "shape": "hvh"},
            fill="tozeroy",
            hovertemplate="channel %{x}: %{y:.3g}<extra></extra>",
        )
    )
    figure.update_yaxes(rangemode="tozero")
    return finish(figure, x="input channel", y=f"{literal(unit)}, sum of the channel", height=300)


def coverage_curve(
    points: pd.DataFrame,
    *,
    counted: str = "weights",
    marked: tuple[float, float] | None = None,
    name: str = "this matrix",
) -> go.Figure:
    """Which share of the salience the most salient part holds, beside an even spread.

    Args:
        points: columns `weight_share` and `salience_share`, from (0, 0) to (1, 1).
        counted: what has a score.
        marked: a point of the curve to mark, with lines to both axes.
        name: whose curve it is.
    """
    colour, _ = category(0)
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="evenly spread",
        line={"color": "#808080", "dash": "dash"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=points["weight_share"],
        y=points["salience_share"],
        mode="lines",
        name=name,
        line={"color": colour, "width": 3},
        hovertemplate=f"the top %{{x:.1%}} of the {counted} hold %{{y:.1%}}<extra></extra>",
    )
    if marked is not None:
        share, held = marked
        mark, symbol = category(5)
        figure.add_scatter(
            x=[share, share, 0],
            y=[0, held, held],
            mode="lines+markers",
            name="chosen share",
            line={"color": mark, "width": 1.5, "dash": "dot"},
            marker={"symbol": symbol, "size": [0, 10, 0], "color": mark},
            hoverinfo="skip",
        )
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return finish(figure, x=f"share of the {counted}, most salient first", y="share of the salience", height=300)


def metric_scatter(frame: pd.DataFrame, *, x: str, y: str, logarithmic: bool = True) -> go.Figure:
    """The same things scored by two metrics, a series a group.

    Args:
        frame: columns `first` and `second` (the scores), `group` (name of the series) and `label` (for hover boxes).
        x: name of the first metric.
        y: name of the second.
        logarithmic: logarithmic axes; points that are not above zero are then left out by Plotly.
    """
    figure = go.Figure()
    for index, (group, part) in enumerate(frame.groupby("group", sort=False)):
        colour, symbol = category(index)
        figure.add_scatter(
            x=part["first"],
            y=part["second"],
            mode="markers",
            name=literal(group),
            marker={"color": colour, "symbol": symbol, "size": 9, "line": {"color": "#FFFFFF", "width": 1}},
            customdata=[literal(label) for label in part["label"]],
            hovertemplate="%{customdata}<br>%{x:.3g}, %{y:.3g}<extra></extra>",
        )
    if logarithmic:
        figure.update_xaxes(
            type="log", dtick="D2", minorloglabels="complete", exponentformat=_notation(frame["first"].tolist())
        )
        figure.update_yaxes(
            type="log", dtick="D2", minorloglabels="complete", exponentformat=_notation(frame["second"].tolist())
        )
    return finish(figure, x=literal(x), y=literal(y), height=420)


def _notation(values: Sequence[float]) -> str:
    """How an axis writes its numbers: powers of ten where they are small, for Plotly would write 500µ for 0.0005."""
    return "power" if any(0 < value < 1e-3 for value in values) else "none"
