"""How fast kernels are beside a copy of memory."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.style import category, finish


def kernel_bars(frame: pd.DataFrame) -> go.Figure:
    """Bars of each operation's rate as a share of the copy rate, one colour an operation.

    Args:
        frame: columns `operation`, `bits` (empty for all widths at once), `share_of_copy`, `seconds`.
    """
    held = frame.assign(name=[bar_name(*one) for one in zip(frame["operation"], frame["bits"], strict=True)])
    figure = go.Figure()
    for place, (operation, part) in enumerate(held.groupby("operation", sort=False)):
        figure.add_bar(
            x=100 * part["share_of_copy"],
            y=part["name"],
            orientation="h",
            name=str(operation),
            marker={"color": category(place)[0]},
            customdata=1000 * part["seconds"],
            hovertemplate="%{y}<br>%{x:.3g} % of the copy rate<br>%{customdata:.3g} ms<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=list(held["name"]))
    figure.update_layout(showlegend=False)
    return finish(figure, x="% of the copy rate", y="", height=150 + 24 * len(held))


def bar_name(operation: str, bits: float | None) -> str:
    """An operation at a width in words, such as `quantize, 4 bits`."""
    return f"{operation}, all widths" if bits is None or bits != bits else f"{operation}, {int(bits)} bits"
