"""Damage by matrix and token: a signed cell each, the sums of rows at the side and of columns on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.heatmap import LABELLED_CELLS, heat_map
from workbench.figures.labels import literal
from workbench.figures.style import NEGATIVE, POSITIVE, finish, signed_colour

SCALE = [(0.0, signed_colour(-1)), (0.5, signed_colour(0)), (1.0, signed_colour(1))]
ROW_HEIGHT = 17
TOP = 100
"""Pixels of the bars over the columns."""

NAMED_TOKENS = 64
ACROSS, SIDE = 0.8, 0.83
"""Where the map ends and where the bars at its side begin, as shares of the width."""


def damage_heat(
    cells: pd.DataFrame,
    rows: Sequence[str],
    tokens: Sequence[str],
    *,
    unit: str,
    limit: float,
    selected: tuple[int | None, int | None] = (None, None),
) -> go.Figure:
    """The map with its sums; a click answers with a place.

    Places count the cells, row after row; then follow those of the rows' bars, then those of the columns' bars.

    Args:
        cells: columns `row`, `column`, `value` and `label`, row after row without gaps.
        rows: names of the rows, from top to bottom.
        tokens: the columns, safe for Plotly.
        unit: what a value is.
        limit: the value that takes the full colour; above zero.
        selected: row and column that get a frame; None for all of them.
    """
    row, column = selected
    framed = row * len(tokens) + column if row is not None and column is not None else None
    figure = heat_map(cells, unit=unit, logarithmic=False, selected=framed, row_height=ROW_HEIGHT)
    ticks = [-limit, -limit / 2, 0, limit / 2, limit]
    bar = {"title": {"text": literal(unit), "side": "right"}, "tickvals": ticks, "thickness": 12, "len": 0.7}
    bar |= {"ticktext": [f"{tick:.2g}".replace("-", "\u2212") for tick in ticks], "x": 1.02}
    figure.update_traces(selector={"type": "heatmap"}, zmin=-limit, zmax=limit, colorscale=SCALE, colorbar=bar)
    if len(cells) <= LABELLED_CELLS:
        figure.update_traces(selector={"type": "scatter"}, textfont={"color": "#000000", "size": 10})
    figure.update_shapes(line_color="#000000")  # the house's orange would not be seen on orange cells
    if framed is None and (row is not None or column is not None):
        _frame_line(figure, row, column, len(rows), len(tokens))
    grid = [cells["value"].tolist()[start : start + len(tokens)] for start in range(0, len(cells), len(tokens))]
    _add_row_sums(figure, [sum(line) for line in grid], rows, len(cells), unit)
    _add_column_sums(figure, [sum(line) for line in zip(*grid, strict=True)], tokens, len(cells) + len(rows), unit)
    return _arrange(figure, rows, tokens)


def _frame_line(figure: go.Figure, row: int | None, column: int | None, rows: int, columns: int) -> None:
    across = (-0.5, columns - 0.5) if column is None else (column - 0.5, column + 0.5)
    down = (-0.5, rows - 0.5) if row is None else (row - 0.5, row + 0.5)
    line = {"color": "#000000", "width": 2}
    figure.add_shape(type="rect", x0=across[0], x1=across[1], y0=down[0], y1=down[1], line=line)


def _bars(values: Sequence[float], labels: Sequence[str], first: int, unit: str, measured: str) -> dict[str, Any]:
    """What bars along either side have in common; orange above zero, blue and striped below."""
    return {
        "marker": {
            "color": [POSITIVE if value > 0 else NEGATIVE for value in values],
            "pattern": {"shape": ["" if value > 0 else "/" for value in values]},
        },
        "customdata": [[first + place, literal(label)] for place, label in enumerate(labels)],
        "hovertemplate": f"%{{customdata[1]}}<br>{literal(unit)}, sum: %{{{measured}:.3g}}<extra></extra>",
        "showlegend": False,
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 1}},
    }


def _add_row_sums(figure: go.Figure, sums: list[float], rows: Sequence[str], first: int, unit: str) -> None:
    look = _bars(sums, rows, first, unit, "x")
    figure.add_bar(x=sums, y=list(range(len(sums))), orientation="h", xaxis="x2", yaxis="y", **look)


def _add_column_sums(figure: go.Figure, sums: list[float], tokens: Sequence[str], first: int, unit: str) -> None:
    figure.add_bar(x=list(range(len(sums))), y=sums, xaxis="x", yaxis="y2", **_bars(sums, tokens, first, unit, "y"))


def _arrange(figure: go.Figure, rows: Sequence[str], tokens: Sequence[str]) -> go.Figure:
    """Bars of the rows to the right, of the columns on top, both in line with the map's cells."""
    body = max(150, ROW_HEIGHT * len(rows))
    share = body / (body + TOP)
    finish(figure, x="token", y="", height=body + TOP + 110)
    every = -(-len(tokens) // NAMED_TOKENS)
    places = list(range(0, len(tokens), every))
    figure.update_layout(
        xaxis={
            "domain": [0, ACROSS],
            "tickvals": places,
            "ticktext": [tokens[place] for place in places],
            "tickangle": -90,
            "tickfont": {"size": 10},
        },
        yaxis={
            "domain": [0, share - 0.02],
            "tickvals": list(range(len(rows))),
            "ticktext": [literal(name) for name in rows],
            "tickfont": {"size": 10},
        },
        xaxis2={"domain": [SIDE, 1], "anchor": "y", "title": {"text": "sum"}, "nticks": 3, "automargin": True},
        yaxis2={"domain": [share, 1], "anchor": "x", "title": {"text": "sum"}, "nticks": 4, "automargin": True},
        bargap=0.15,
    )
    return figure
