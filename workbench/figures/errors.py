"""What bits cost: every matrix under every choice; the channels, weights and grid of one matrix before and after."""

from __future__ import annotations

import itertools

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.columns import matrix_axis
from workbench.figures.heatmap import heat_map
from workbench.figures.labels import literal
from workbench.figures.style import category, finish

ROW_HEIGHT = 36
LOW_ROW_HEIGHT = 24
MANY_ROWS = 12
ERRORS = {"output_error": "error of the output", "weight_error": "error of the weights"}


def error_map(
    frame: pd.DataFrame, *, value: str, unit: str, logarithmic: bool = True, selected: int | None = None
) -> go.Figure:
    """A heat map with a column a matrix and a row a choice of quantizer and width; a click answers with a cell's place.

    Args:
        frame: columns `matrix`, `block`, `role`, `label`, `quantizer` and the value, matrices in the model's order,
            labels in the order of the rows, those of a quantizer together.
        value: name of the value column.
        unit: what the value is.
        logarithmic: colour by the logarithm.
        selected: place in the frame of the chosen cell.
    """
    held = frame.reset_index(drop=True)
    matrices = held.drop_duplicates("matrix").reset_index(drop=True)
    places = {name: place for place, name in enumerate(matrices["matrix"])}
    choices = held.drop_duplicates("label").reset_index(drop=True)
    rows = {label: place for place, label in enumerate(choices["label"])}
    cells = pd.DataFrame(
        {
            "row": [rows[label] for label in held["label"]],
            "column": [places[name] for name in held["matrix"]],
            "value": held[value],
            "label": [f"{name}, {label}" for name, label in zip(held["matrix"], held["label"], strict=True)],
        }
    )
    height = ROW_HEIGHT if len(rows) <= MANY_ROWS else LOW_ROW_HEIGHT
    figure = heat_map(cells, unit=unit, logarithmic=logarithmic, selected=selected, row_height=height)
    matrix_axis(figure, matrices)
    figure.update_yaxes(tickvals=list(rows.values()), ticktext=[literal(label) for label in rows])
    _add_lines_between(figure, list(choices["quantizer"]))
    return finish(figure, x="matrix", y="", height=190 + height * len(rows))


def _add_lines_between(figure: go.Figure, quantizers: list[str]) -> None:
    """A line between the rows of two quantizers."""
    for place, (one, other) in enumerate(itertools.pairwise(quantizers)):
        if one != other:
            line = {"color": "#808080", "width": 1}
            figure.add_shape(type="line", x0=0, x1=1, xref="paper", y0=place + 0.5, y1=place + 0.5, line=line)


def weight_histogram(bins: pd.DataFrame) -> go.Figure:
    """The values of one matrix before (bars) and after (marks), counted on a logarithmic axis: a grid piles them up.

    Args:
        bins: columns `low`, `high`, `original`, `quantized`.
    """
    middles, (bar, _), (mark, symbol) = (bins["low"] + bins["high"]) / 2, category(0), category(1)
    hover = "%{x:.4g}<br>%{y:,} weights<extra>"
    figure = go.Figure()
    figure.add_bar(
        x=middles,
        y=bins["original"],
        width=bins["high"] - bins["low"],
        name="before",
        marker={"color": bar, "opacity": 0.6, "line": {"width": 0}},
        hovertemplate=hover + "before</extra>",
    )
    figure.add_scatter(
        x=middles,
        y=bins["quantized"].where(bins["quantized"] > 0),
        mode="markers",
        name="after",
        marker={"color": mark, "symbol": symbol, "size": 7, "line": {"color": "#333333", "width": 1}},
        hovertemplate=hover + "after</extra>",
    )
    figure.update_layout(bargap=0)
    figure.update_yaxes(type="log", minorloglabels="none")
    return finish(figure, x="value of a weight", y="weights", height=320)


def channel_errors(channels: pd.DataFrame) -> go.Figure:
    """The relative error of every output channel.

    Args:
        channels: columns `channel`, `output_error`, `weight_error`.
    """
    figure = go.Figure()
    for index, (column, name) in enumerate(ERRORS.items()):
        colour, symbol = category(index)
        figure.add_scatter(
            x=channels["channel"],
            y=channels[column],
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 6, "opacity": 0.8},
            hovertemplate="channel %{x}: %{y:.3g}<extra>" + name + "</extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return finish(figure, x="output channel", y="relative error", height=320)


def grid_levels(levels: pd.DataFrame, *, counted: str = "weights of the first group") -> go.Figure:
    """How many weights stand on each level of one grid.

    Args:
        levels: columns `value` and `count`.
        counted: whose grid it is.
    """
    colour, symbol = category(0)
    stems = [part for value in levels["value"] for part in (value, value, None)]
    heights = [part for count in levels["count"] for part in (0, count, None)]
    figure = go.Figure()
    figure.add_scatter(x=stems, y=heights, mode="lines", line={"color": colour, "width": 2}, hoverinfo="skip")
    figure.add_scatter(
        x=levels["value"],
        y=levels["count"],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 8},
        hovertemplate="level %{x:.4g}: %{y} weights<extra></extra>",
    )
    figure.update_layout(showlegend=False)
    return finish(figure, x="level", y=counted, height=320)
