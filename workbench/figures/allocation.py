"""Where the bits of a plan go: a bar a matrix, block after block."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.columns import matrix_axis
from workbench.figures.labels import literal
from workbench.figures.style import category, finish

LOCKED = "locked"


def bit_bars(frame: pd.DataFrame) -> go.Figure:
    """The width of every matrix as a bar, a colour a width; locked matrices are hatched.

    Args:
        frame: columns `matrix`, `block`, `role`, `bits`, `stored_bits`, `locked`, matrices in the model's order.
    """
    held = frame.reset_index(drop=True)
    figure = go.Figure()
    for index, bits in enumerate(sorted(set(held["bits"]))):
        part = held[held["bits"] == bits]
        figure.add_bar(
            x=part.index,
            y=part["bits"],
            name=f"{bits} bits",
            marker={
                "color": category(index)[0],
                "pattern": {"shape": ["/" if locked else "" for locked in part["locked"]], "fgcolor": "#FFFFFF"},
            },
            customdata=[
                [literal(name), stored, f"<br>{LOCKED}" if locked else ""]
                for name, stored, locked in zip(part["matrix"], part["stored_bits"], part["locked"], strict=True)
            ],
            hovertemplate="%{customdata[0]}<br>%{y} bits, %{customdata[1]:.3f} stored%{customdata[2]}<extra></extra>",
        )
    matrix_axis(figure, held)
    figure.update_yaxes(tickvals=sorted({0, *held["bits"]}), rangemode="tozero")
    finish(figure, x="matrix", y="bits", height=360)
    # above the names of the blocks
    return figure.update_layout(legend_y=1.12, bargap=0.15, margin_t=56, xaxis_range=[-0.5, len(held) - 0.5])
