"""Tokens to blame for a divergence, worst on top."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.labels import literal
from workbench.figures.style import NEGATIVE, POSITIVE, category, finish

BAR = 26


def blame_bars(frame: pd.DataFrame, *, series: Sequence[str], unit: str) -> go.Figure:
    """One bar a token and series, the first row on top; a single series is orange above zero, blue and striped below.

    Args:
        frame: column `label` (the token, safe for Plotly) and one column a series.
        series: names of these columns, also in the legend, which is drawn where there are several.
        unit: what a value is.
    """
    figure = go.Figure()
    places, single = list(range(len(frame))), len(series) == 1
    for index, name in enumerate(series):
        colour = [POSITIVE if value > 0 else NEGATIVE for value in frame[name]] if single else category(index)[0]
        stripes = ["" if value > 0 else "/" for value in frame[name]] if single else "/" if index else ""
        figure.add_bar(
            y=places,
            x=frame[name],
            orientation="h",
            name=literal(name),
            marker={"color": colour, "pattern": {"shape": stripes}},
            customdata=[[label] for label in frame["label"]],
            hovertemplate=f"%{{customdata[0]}}<br>{literal(unit)} %{{x:.3g}}<extra>{literal(name)}</extra>",
            showlegend=not single,
        )
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_yaxes(
        tickvals=places, ticktext=frame["label"].tolist(), autorange="reversed", showgrid=False, zeroline=False
    )
    figure.update_xaxes(exponentformat="power")
    return finish(figure, x=literal(unit), y="", height=110 + BAR * len(series) * max(3, len(frame)))
