"""A grid of coloured cells, each of which can be clicked.

Plotly's heat maps report no clicks to Streamlit (its issue 8760), so that unseen marks lie on top, which carry the
hover text too: a square in the middle of each cell, with its number, and a bar of the cell's own size, because a click
beside the square would be lost.
"""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.labels import literal
from workbench.figures.style import MAGNITUDE

LABELLED_CELLS = 80
"""Up to this many cells carry their number; more would not be legible."""

WIDTH = 900
"""About how many pixels a chart has for its columns, to make the squares as large as the cells."""

FRAME = "#D55E00"
DARK_PART = 0.47
"""Share of Cividis, from its dark end, on which white text is read better than black."""

NO_COLOUR_INK = "#767676"
"""Text on a cell without colour: to be read on a light and on a dark page."""
STEPS = 5
UNSEEN = {"marker": {"opacity": 0.01}}


def heat_map(
    cells: pd.DataFrame, *, unit: str, logarithmic: bool = True, selected: int | None = None, row_height: int = 34
) -> go.Figure:
    """One coloured cell a row of the frame; the caller names the axes.

    A clicked cell answers with the row's place in the frame as the first of its `customdata`.

    Args:
        cells: columns `row` and `column` (places counted from 0, the first row on top), `value`, and `label` (what the
            hover box calls the cell). Values that are not finite, or not above zero on a logarithmic scale, have no
            colour.
        unit: what a value is, for colour bar and hover boxes.
        logarithmic: colour by the logarithm, for values that differ by orders of magnitude.
        selected: place in the frame of the cell that gets a frame around it.
        row_height: of one row, in pixels.
    """
    rows, columns = max(cells["row"].tolist()) + 1, max(cells["column"].tolist()) + 1
    colours = [_colour(value, logarithmic) for value in cells["value"]]
    gap = 2 if columns <= 60 else 1
    figure = go.Figure(
        go.Heatmap(
            z=_grid(cells, colours, rows, columns),
            x=list(range(columns)),
            y=list(range(rows)),
            hoverinfo="skip",
            colorscale=MAGNITUDE,
            colorbar=_colour_bar(colours, unit, logarithmic),
            xgap=gap,
            ygap=gap,
        )
    )
    _add_marks(figure, cells, unit, max(5, min(row_height - 6, WIDTH // columns - 4)))
    if rows * columns <= LABELLED_CELLS:
        _add_numbers(figure, cells, colours)
    if selected is not None:
        _add_frame(figure, int(cells["column"].iloc[selected]), int(cells["row"].iloc[selected]))
    figure.update_xaxes(showgrid=False, zeroline=False, range=[-0.5, columns - 0.5])
    figure.update_yaxes(showgrid=False, zeroline=False, range=[rows - 0.5, -0.5])
    return figure.update_layout(clickmode="event+select", hovermode="closest")


def _add_marks(figure: go.Figure, cells: pd.DataFrame, unit: str, size: int) -> None:
    labels = [literal(label) for label in cells["label"]]
    values = [f"{value:.3g}" if pd.notna(value) else "none" for value in cells["value"]]
    columns, rows = cells["column"].tolist(), cells["row"].tolist()
    told = {
        "customdata": [[place, *words] for place, words in enumerate(zip(labels, values, strict=True))],
        "hovertemplate": f"%{{customdata[1]}}<br>{literal(unit)}: %{{customdata[2]}}<extra></extra>",
        "showlegend": False,
        "selected": UNSEEN,
        "unselected": UNSEEN,
    }
    square = {"symbol": "square", "size": size, "color": "#333333", **UNSEEN["marker"]}
    figure.add_scatter(x=columns, y=rows, mode="markers", marker=square, **told)
    bottoms = [row - 0.5 for row in rows]
    figure.add_bar(x=columns, base=bottoms, y=[1] * len(rows), width=1, marker=UNSEEN["marker"], **told)
    figure.update_layout(barmode="overlay")


def _add_frame(figure: go.Figure, x: int, y: int) -> None:
    line = {"color": FRAME, "width": 3}
    figure.add_shape(type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line=line)


def _colour(value: float | None, logarithmic: bool) -> float | None:
    if value is None or not math.isfinite(value) or (logarithmic and value <= 0):
        return None
    return math.log10(value) if logarithmic else float(value)


def _grid(cells: pd.DataFrame, values: list, rows: int, columns: int) -> list[list]:
    grid: list[list] = [[None] * columns for _ in range(rows)]
    for row, column, value in zip(cells["row"], cells["column"], values, strict=True):
        grid[row][column] = value
    return grid


def _add_numbers(figure: go.Figure, cells: pd.DataFrame, colours: list[float | None]) -> None:
    """Numbers in the cells, black or white, whichever can be read; Plotly's own grey is too pale on Cividis' middle."""
    low, high = _limits(colours)
    inks = [NO_COLOUR_INK if colour is None else _ink((colour - low) / ((high - low) or 1.0)) for colour in colours]
    figure.update_traces(
        selector={"mode": "markers"},
        mode="markers+text",
        text=[f"{value:.2g}" if pd.notna(value) else "" for value in cells["value"]],
        textfont={"color": inks},
        textposition="middle center",
    )


def _ink(share: float) -> str:
    """Text colour at that share of the scale: black on the bright part, with a contrast of at least 4.4 everywhere."""
    return "#000000" if share >= DARK_PART else "#FFFFFF"


def _colour_bar(colours: list[float | None], unit: str, logarithmic: bool) -> dict[str, object]:
    low, high = _limits(colours)
    ticks = [low + (high - low) * step / (STEPS - 1) for step in range(STEPS)]
    texts = [f"{10**tick if logarithmic else tick:.2g}" for tick in ticks]
    return {"title": {"text": literal(unit), "side": "right"}, "tickvals": ticks, "ticktext": texts, "thickness": 14}


def _limits(colours: list[float | None]) -> tuple[float, float]:
    known = [colour for colour in colours if colour is not None]
    return (min(known), max(known)) if known else (0.0, 1.0)
