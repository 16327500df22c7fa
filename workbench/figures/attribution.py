"""Maps of a prompt held against what the model does: removal curves, agreement of methods, attention and ablation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.agreement import NUMBERED, agreement_map
from workbench.figures.labels import literal
from workbench.figures.style import DASHES, category, finish

RANDOM = "random"
BAND, LINE = "rgba(128, 128, 128, 0.25)", "#808080"
NAMED = 4
"""Tokens that are named in a cloud, by either of its axes; more would lie on top of each other."""

SPREADS = 2
"""Standard deviations of random orders on each side that the band holds."""


def removal_curves(frame: pd.DataFrame, *, unit: str, removed: str) -> go.Figure:
    """What is explained while tokens are taken away (or put back) in the order of each map, and of random orders.

    Args:
        frame: columns `method`, `removed` (share of the tokens), `value`, and `sd` for the method `random`.
        unit: what the value is.
        removed: title of the axis of shares.
    """
    figure = go.Figure()
    _add_band(figure, frame.loc[frame["method"] == RANDOM])
    methods = [name for name in dict.fromkeys(frame["method"]) if name != RANDOM]
    for place, name in enumerate(methods):
        part = frame.loc[frame["method"] == name]
        colour, symbol = category(place)
        figure.add_scatter(
            x=100 * part["removed"],
            y=part["value"],
            mode="lines+markers",
            name=literal(name),
            line={"color": colour, "width": 2, "dash": DASHES[place % len(DASHES)]},
            marker={"color": colour, "symbol": symbol, "size": 7},
            hovertemplate=f"{literal(name)}<br>%{{x:.0f}} %: %{{y:.4g}}<extra></extra>",
        )
    return finish(figure, x=removed, y=literal(unit), height=360)


def _add_band(figure: go.Figure, part: pd.DataFrame) -> None:
    """Mean of random orders with the band around it."""
    if part.empty:
        return
    x = (100 * part["removed"]).tolist()
    low, high = ((part["value"] + side * SPREADS * part["sd"]).tolist() for side in (-1, 1))
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=BAND,
        line={"width": 0},
        hoverinfo="skip",
        name=f"random orders, {SPREADS} standard deviations",
    )
    figure.add_scatter(
        x=x,
        y=part["value"],
        mode="lines",
        name="random orders, mean",
        line={"color": LINE, "width": 2, "dash": "dot"},
        hovertemplate="random orders<br>%{x:.0f} %: %{y:.4g}<extra></extra>",
    )


def method_agreement(pairs: pd.DataFrame, order: Sequence[str], *, value: str, unit: str) -> go.Figure:
    """A cell for every two methods.

    Args:
        pairs: columns `method`, `other` and the value.
        order: the methods from top to bottom.
        value: `spearman` or another value column, from 0 to 1.
        unit: what the value is.
    """
    figure = agreement_map(pairs.rename(columns={"method": "metric"}), order, value=value, unit=unit, selected=0)
    figure.layout.shapes = ()  # nothing is chosen here
    return figure.update_traces(showscale=False, selector="heatmap") if len(order) <= NUMBERED else figure


def attention_against_ablation(frame: pd.DataFrame) -> go.Figure:
    """A point a token: what attention gives it, and what the target loses when it is replaced.

    Args:
        frame: columns `label` (the token, safe for Plotly), `attention` and `effect`.
    """
    figure = go.Figure()
    colour, symbol = category(0)
    named = {place for column in ("attention", "effect") for place in _largest(frame[column].abs().tolist())}
    figure.add_scatter(
        x=frame["attention"],
        y=frame["effect"],
        mode="markers+text",
        text=[label if place in named else "" for place, label in enumerate(frame["label"])],
        customdata=frame["label"],
        textposition="top center",
        textfont={"size": 11},
        marker={"color": colour, "symbol": symbol, "size": 9},
        hovertemplate="%{customdata}<br>attention %{x:.4g}<br>effect %{y:.4g}<extra></extra>",
        showlegend=False,
    )
    figure.add_hline(y=0, line={"color": LINE, "width": 1})
    return finish(figure, x="score by attention", y="lost when the token is replaced", height=340)


def _largest(sizes: Sequence[float]) -> list[int]:
    """Places of the largest sizes."""
    return sorted(range(len(sizes)), key=lambda place: -sizes[place])[:NAMED]
