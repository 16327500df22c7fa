"""The scores of a prompt's tokens as a chart: one model, or two models on the same tokens."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.style import category, finish

MODELS = {"full": "full precision", "quantized": "quantized"}
"""Column of the frame -> name in the legend."""


def compare_tokens(frame: pd.DataFrame, *, unit: str) -> go.Figure:
    """Scores of the same tokens in two models: a marker each and a line between them, as long as the change.

    Args:
        frame: columns `position`, `label` (the token, safe for Plotly), `full` and `quantized`.
        unit: what a score is counted in.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=_gapped(frame, "position", "position"),
        y=_gapped(frame, "full", "quantized"),
        mode="lines",
        line={"color": "#808080", "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )
    for index, (column, name) in enumerate(MODELS.items()):
        colour, symbol = category(index)
        figure.add_scatter(
            x=frame["position"],
            y=frame[column],
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 9, "line": {"color": "#FFFFFF", "width": 1}},
            customdata=frame["label"],
            hovertemplate="%{customdata}<br>%{y:.4g}<extra>" + name + "</extra>",
        )
    figure.add_hline(y=0, line={"color": "#808080", "width": 1})
    # of a category axis a narrow chart writes as many labels as there is room for; tokens repeat, positions do not
    labels = {str(position): label for position, label in zip(frame["position"], frame["label"], strict=True)}
    figure.update_xaxes(type="category", labelalias=labels, tickangle=-90, showgrid=False)
    return finish(figure, x="token", y=unit, height=340)


def _gapped(frame: pd.DataFrame, start: str, stop: str) -> list[float | None]:
    """Start and end of every line, with a gap after each, so that one trace draws them all."""
    return [value for pair in zip(frame[start], frame[stop], strict=True) for value in (*pair, None)]
