"""An axis with a place for every matrix: roles below, blocks above, a line between two blocks."""

from __future__ import annotations

from itertools import groupby

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.labels import OUTSIDE, block_name, literal, role_labels

NAMED_COLUMNS = 64
"""Up to this many matrices are named one by one; of more only the blocks are."""

NAMED_BLOCKS = 16
"""Up to this many blocks are called `block 3`, more only `3`."""


def matrix_axis(figure: go.Figure, frame: pd.DataFrame) -> go.Figure:
    """Name the places 0, 1, 2, ... of the x axis; returns the same figure.

    Args:
        figure: a figure whose x is the place of a matrix in the frame.
        frame: columns `matrix`, `block`, `role`, a matrix in each row, those of a block together.
    """
    ticks = list(range(len(frame))) if len(frame) <= NAMED_COLUMNS else []
    names = [literal(role) for role in role_labels(frame)] if ticks else []
    figure.update_xaxes(tickvals=ticks, ticktext=names, tickangle=-90, showgrid=False, zeroline=False)
    blocks = [block_name(block) for block in frame["block"]]
    runs = [[place for place, _ in run] for _, run in groupby(enumerate(blocks), key=lambda one: one[1])]
    for run in runs:
        _name_block(figure, run, blocks[run[0]], short=len(runs) > NAMED_BLOCKS)
        if run[0]:
            line = {"color": "#808080", "width": 1}
            figure.add_shape(type="line", x0=run[0] - 0.5, x1=run[0] - 0.5, y0=0, y1=1, yref="paper", line=line)
    return figure


def _name_block(figure: go.Figure, run: list[int], block: str, *, short: bool) -> None:
    text = block if short or block == OUTSIDE else f"block {block}"
    middle = (run[0] + run[-1]) / 2
    figure.add_annotation(x=middle, y=1, yref="paper", yanchor="bottom", text=text, showarrow=False)
