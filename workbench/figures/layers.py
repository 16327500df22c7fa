"""Lines over the layers of a model."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.style import category

GUIDE = {"color": "#808080", "width": 2, "dash": "dot"}
"""A line that others are held against."""


def lines_by_layer(frame: pd.DataFrame, names: Mapping[str, str], number: str) -> go.Figure:
    """A line a column, the first one solid and the others dashed; columns that the frame does not have are left out.

    Args:
        frame: column `block` and those of `names`.
        names: column of the frame -> name in the legend.
        number: how values are written in hover boxes, in d3's format.
    """
    figure = go.Figure()
    for index, (column, name) in enumerate(names.items()):
        if column not in frame:
            continue
        colour, symbol = category(index)
        figure.add_scatter(
            x=frame["block"],
            y=frame[column],
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2, "dash": "dash" if index else "solid"},
            marker={"color": colour, "symbol": symbol, "size": 9},
            hovertemplate=f"layer %{{x}}: %{{y:{number}}}<extra>{name}</extra>",
        )
    figure.update_xaxes(dtick=max(1, len(frame) // 12))
    return figure
