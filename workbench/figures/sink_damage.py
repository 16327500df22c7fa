"""Sinks by layer: the attention that they draw beside the damage that lies on them."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.layers import GUIDE, lines_by_layer
from workbench.figures.style import finish

LINES = {"attention": "attention on them", "damage": "damage on them"}
"""Column of the frame -> name in the legend."""


def mass_and_damage(frame: pd.DataFrame, *, even: float) -> go.Figure:
    """Two shares a layer; the dotted line is the share that so many tokens have by their number.

    Args:
        frame: columns `block`, `attention` and `damage`, shares of one.
        even: that share.
    """
    figure = lines_by_layer(frame, LINES, ".2%")
    figure.add_scatter(
        x=frame["block"],
        y=[even] * len(frame),
        mode="lines",
        name="their share of the tokens",
        line=GUIDE,
        hoverinfo="skip",
    )
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return finish(figure, x="layer", y="share", height=300)
