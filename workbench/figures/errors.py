"""What bits cost: every matrix at every width, the channels of one matrix, two histograms of its weights, its grid."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.columns import matrix_axis
from workbench.figures.heatmap import heat_map
from workbench.figures.style import category, finish

ROW_HEIGHT = 44
ERRORS = {"output_error": "error of the output", "weight_error": "error of the weights"}


def error_map(
    frame: pd.DataFrame, *, value: str, unit: str, logarithmic: bool = True, selected: int | None = None
) -> go.Figure:
    """A heat map with a column a matrix and a row a width; a click answers with the cell's place in the frame.

    Args:
        frame: columns `matrix`, `block`, `role`, `bits` and the value, matrices in the model's order.
        value: name of the value column.
        unit: what the value is.
        logarithmic: colour by the logarithm.
        selected: place in the frame of the chosen cell.
    """
    held = frame.reset_index(drop=True)
    matrices = held.drop_duplicates("matrix").reset_index(drop=True)
    places = {name: place for place, name in enumerate(matrices["matrix"])}
    widths = sorted(set(held["bits"]))
    cells = pd.DataFrame(
        {
            "row": [widths.index(bits) for bits in held["bits"]],
            "column": [places[name] for name in held["matrix"]],
            "value": held[value],
            "label": [f"{name}, {bits} bits" for name, bits in zip(held["matrix"], held["bits"], strict=True)],
        }
    )
    figure = heat_map(cells, unit=unit, logarithmic=logarithmic, selected=selected, row_height=ROW_HEIGHT)
    matrix_axis(figure, matrices)
    figure.update_yaxes(tickvals=list(range(len(widths))), ticktext=[str(width) for width in widths])
    return finish(figure, x="matrix", y="bits", height=190 + ROW_HEIGHT * len(widths))


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


def grid_levels(levels: pd.DataFrame) -> go.Figure:
    """How many weights of one group stand on each level of its grid.

    Args:
        levels: columns `value` and `count`.
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
    return finish(figure, x="level", y="weights of the first group", height=320)
