"""Attention as pictures: a cell a head, a cell a pair of tokens, a line over the layers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.heatmap import heat_map
from workbench.figures.labels import literal
from workbench.figures.layers import GUIDE, lines_by_layer
from workbench.figures.style import MAGNITUDE, finish

ROW_HEIGHT = 34
NAMED_TOKENS = 48
"""About this many tokens are named on an axis; of more, every second, third, ..."""

TOKEN_HEIGHT = 15
LEAST, MOST = 320, 760
MODELS = {"full": "full precision", "quantized": "quantized"}
"""Column of the frame -> name in the legend."""


def head_grid(frame: pd.DataFrame, *, value: str, unit: str, selected: int | None = None) -> go.Figure:
    """A cell a head, layers from top to bottom; a click answers with the head's place in the frame.

    Args:
        frame: columns `block`, `head` and the value.
        value: name of the value column.
        unit: what the value is.
        selected: place in the frame of the head that gets a frame around it.
    """
    blocks = list(dict.fromkeys(frame["block"].tolist()))
    heads = sorted(set(frame["head"].tolist()))
    cells = pd.DataFrame(
        {
            "row": [blocks.index(block) for block in frame["block"]],
            "column": frame["head"],
            "value": frame[value],
            "label": [f"layer {block}, head {head}" for block, head in zip(frame["block"], frame["head"], strict=True)],
        }
    )
    figure = heat_map(cells, unit=unit, logarithmic=False, selected=selected, row_height=ROW_HEIGHT)
    figure.update_xaxes(side="top", tickvals=heads, ticktext=[str(head) for head in heads])
    figure.update_yaxes(tickvals=list(range(len(blocks))), ticktext=[str(block) for block in blocks])
    return finish(figure, x="head", y="layer", height=110 + ROW_HEIGHT * len(blocks))


def token_map(frame: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """A row a position that looks, a column a token that is looked at; what cannot be seen has no colour.

    Args:
        frame: columns `position`, `key` and `attention`; the positions may be a part of the prompt.
        labels: all tokens of the prompt, safe for Plotly.
    """
    rows = sorted(set(frame["position"].tolist()))
    grid: list[list[float | None]] = [[None] * len(labels) for _ in rows]
    for position, key, share in zip(frame["position"], frame["key"], frame["attention"], strict=True):
        grid[position - rows[0]][key] = float(share) if share == share else None  # none of it is left
    figure = go.Figure(
        go.Heatmap(
            z=grid,
            x=list(range(len(labels))),
            y=rows,
            customdata=[[[labels[row], label] for label in labels] for row in rows],
            hovertemplate="%{customdata[0]} looks at %{customdata[1]}<br>attention %{z:.3f}<extra></extra>",
            hoverongaps=False,
            colorscale=MAGNITUDE,
            zmin=0,
            colorbar={"title": {"text": "attention", "side": "right"}, "thickness": 14},
            xgap=1 if len(labels) <= 2 * NAMED_TOKENS else 0,
            ygap=1 if len(labels) <= 2 * NAMED_TOKENS else 0,
        )
    )
    every = -(-len(labels) // NAMED_TOKENS)
    columns = list(range(0, len(labels), every))
    named = rows[::every]
    figure.update_xaxes(
        tickvals=columns, ticktext=[labels[place] for place in columns], tickangle=-90, showgrid=False, zeroline=False
    )
    figure.update_yaxes(
        tickvals=named,
        ticktext=[labels[place] for place in named],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
    )
    height = max(LEAST, min(MOST, 150 + TOKEN_HEIGHT * len(rows)))
    return finish(figure, x="the token that is looked at", y="the position that looks", height=height)


def by_layer(frame: pd.DataFrame, *, unit: str, limits: bool = False) -> go.Figure:
    """A number a layer, in the full and in the quantized model.

    Args:
        frame: columns `block`, `full`, perhaps `quantized`, and `limit` where limits are drawn.
        unit: what the number is.
        limits: draw the limit as a dashed grey line.
    """
    figure = lines_by_layer(frame, MODELS, ".3g")
    if limits:
        figure.add_scatter(
            x=frame["block"],
            y=frame["limit"],
            mode="lines",
            name="limit of a sink",
            line=GUIDE,
            hovertemplate="layer %{x}: limit %{y:.3g}<extra></extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return finish(figure, x="layer", y=literal(unit), height=300)
