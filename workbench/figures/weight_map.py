"""The inside of one matrix: outputs downwards, inputs to the right, coloured by salience."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.labels import literal
from workbench.figures.style import MAGNITUDE, finish

STEPS = 5


def weight_map(cells: pd.DataFrame, *, unit: str, logarithmic: bool = True) -> go.Figure:
    """A heat map of runs of outputs by runs of inputs.

    Args:
        cells: columns `output` and `input` (first of their runs) and `score`, the mean of the cell's weights.
        unit: what a score is.
        logarithmic: colour by the logarithm; cells of zero have no colour then.
    """
    grid = cells.pivot(index="output", columns="input", values="score")
    values = grid.to_numpy(dtype=float)
    colours = [[_colour(value, logarithmic) for value in row] for row in values.tolist()]
    known = [one for row in colours for one in row if one is not None] or [0.0]
    ticks = [min(known) + (max(known) - min(known)) * step / (STEPS - 1) for step in range(STEPS)]
    texts = [f"{10**tick if logarithmic else tick:.2g}" for tick in ticks]
    figure = go.Figure(
        go.Heatmap(
            z=colours,
            x=grid.columns.tolist(),
            y=grid.index.tolist(),
            customdata=values,
            colorscale=MAGNITUDE,
            colorbar={
                "title": {"text": literal(unit), "side": "right"},
                "tickvals": ticks,
                "ticktext": texts,
                "thickness": 14,
            },
            hovertemplate="output %{y}, input %{x}: %{customdata:.3g}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return finish(figure, x="input", y="output", height=420)


def _colour(value: float, logarithmic: bool) -> float | None:
    if not math.isfinite(value) or (logarithmic and value <= 0):
        return None
    return math.log10(value) if logarithmic else value
