"""How far maps can be trusted: scores with error bars, and methods by what moves them."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.labels import literal
from workbench.figures.style import NEGATIVE, POSITIVE, category, finish

NAMED_TOKENS = 64
"""About this many tokens are named on the axis; of more, every second, third, ..."""

UNSTEADY = "#9A9A9A"
SIDES = ("bottom center", "top center")


def error_bars(frame: pd.DataFrame, *, unit: str) -> go.Figure:
    """Mean score of every token with a bar of one standard deviation either way; unsteady tokens are grey and hatched.

    Args:
        frame: columns `position`, `label` (the token, safe for Plotly), `mean_score`, `score_sd`, `snr`, and `steady`.
        unit: what a score is counted in.
    """
    steady = frame["steady"].tolist()
    ends = [POSITIVE if mean > 0 else NEGATIVE for mean in frame["mean_score"]]
    figure = go.Figure(
        go.Bar(
            x=frame["position"],
            y=frame["mean_score"],
            marker={
                "color": [end if sure else UNSTEADY for end, sure in zip(ends, steady, strict=True)],
                "pattern": {"shape": ["" if sure else "/" for sure in steady]},
            },
            error_y={
                "type": "data",
                "array": frame["score_sd"].tolist(),
                "color": "#444444",
                "thickness": 1.5,
                "width": 3,
            },
            customdata=[
                [label, "does not move" if snr != snr else f"{snr:.3g}"]
                for label, snr in zip(frame["label"], frame["snr"], strict=True)
            ],
            hovertemplate="%{customdata[0]}<br>%{y:.4g} \u00b1 %{error_y.array:.2g}<br>"
            "mean over deviation: %{customdata[1]}<extra></extra>",
        )
    )
    figure.add_hline(y=0, line={"color": "#808080", "width": 1})
    named = frame.iloc[:: -(-len(frame) // NAMED_TOKENS)]
    figure.update_xaxes(tickvals=named["position"], ticktext=named["label"], tickangle=-60, showgrid=False)
    return finish(figure, x="token", y=literal(unit), height=340)


def trust_map(frame: pd.DataFrame) -> go.Figure:
    """Methods by fragility and blindness: near the lower left corner is good.

    Args:
        frame: columns `method`, `fragility`, `blindness`, both known.
    """
    figure, most = go.Figure(), max(frame["fragility"].max(), 0.05)
    for index, (method, fragility, blindness) in enumerate(
        zip(frame["method"], frame["fragility"], frame["blindness"], strict=True)
    ):
        colour, symbol = category(index)
        figure.add_scatter(
            x=[fragility],
            y=[blindness],
            mode="markers+text",
            text=[literal(method)],
            textposition=SIDES[index % 2],
            name=literal(method),
            marker={"color": colour, "symbol": symbol, "size": 13, "line": {"color": "#FFFFFF", "width": 1}},
            hovertemplate="fragility %{x:.3f}<br>blindness %{y:.3f}<extra>" + literal(method) + "</extra>",
            cliponaxis=False,
        )
    figure.add_hline(y=0, line={"color": "#808080", "width": 1, "dash": "dot"})
    figure.update_xaxes(range=[-0.08 * most, 1.2 * most])  # names stick out on either side
    figure.update_layout(showlegend=False)
    return finish(
        figure, x="fragility: how far noise moves the order", y="blindness: order left by shuffled weights", height=400
    )
