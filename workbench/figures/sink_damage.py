"""Sinks by layer: the attention that they draw beside the damage that lies on them."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.style import category, finish

LINES = {"attention": "attention on them", "damage": "damage on them"}
"""Column of the frame -> name in the legend."""


def mass_and_damage(frame: pd.DataFrame, *, even: float) -> go.Figure:
    """Two shares a layer; the dotted line is the share that so many tokens have by their number.

    Args:
        frame: columns `block`, `attention` and `damage`, shares of one.
        even: that share.
    """
    figure = go.Figure()
    for index, (column, name) in enumerate(LINES.items()):
        colour, symbol = category(index)
        figure.add_scatter(
            x=frame["block"],
            y=frame[column],
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2, "dash": "dash" if index else "solid"},
            marker={"color": colour, "symbol": symbol, "size": 9},
            hovertemplate=f"layer %{{x}}: %{{y:.2%}}<extra>{name}</extra>",
        )
    line = {"color": "#808080", "width": 2, "dash": "dot"}
    figure.add_scatter(
        x=frame["block"],
        y=[even] * len(frame),
        mode="lines",
        name="their share of the tokens",
        line=line,
        hoverinfo="skip",
    )
    figure.update_xaxes(dtick=max(1, len(frame) // 12))
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return finish(figure, x="layer", y="share", height=300)
