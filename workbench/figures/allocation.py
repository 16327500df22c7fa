"""Where the bits of a plan go, how two plans differ, and what candidates for a plan cost and keep."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.columns import matrix_axis
from workbench.figures.labels import literal
from workbench.figures.style import NEGATIVE, POSITIVE, category, finish

LOCKED = "locked"
MEASURED, PREDICTED, CEILING = "#0072B2", "#D55E00", "#808080"


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


def difference_bars(frame: pd.DataFrame) -> go.Figure:
    """By how many bits the second of two plans is wider at every matrix; orange up, blue down.

    Args:
        frame: columns `matrix`, `block`, `role`, `change` in bits of the code, matrices in the model's order.
    """
    held = frame.reset_index(drop=True)
    figure = go.Figure()
    for name, colour, sign in (("more bits", POSITIVE, 1), ("fewer bits", NEGATIVE, -1)):
        part = held[held["change"] * sign > 0]
        figure.add_bar(
            x=part.index,
            y=part["change"],
            name=name,
            showlegend=True,
            marker={"color": colour},
            customdata=[literal(matrix) for matrix in part["matrix"]],
            hovertemplate="%{customdata}<br>%{y:+d} bits<extra></extra>",
        )
    matrix_axis(figure, held)
    figure.update_yaxes(dtick=1 if max(held["change"].abs(), default=0) <= 8 else None)
    finish(figure, x="matrix", y="difference in bits", height=320)
    return figure.update_layout(legend_y=1.14, bargap=0.15, margin_t=60, xaxis_range=[-0.5, len(held) - 0.5])


def candidate_dots(frame: pd.DataFrame) -> go.Figure:
    """What every candidate was measured to cost, with its standard error, and what its table had predicted.

    Args:
        frame: columns `label`, `predicted` (None where there is no prediction), `delta_loss`, `delta_standard_error`,
            `taken`, in the order from top to bottom.
    """
    held = frame.iloc[::-1].reset_index(drop=True)
    labels = [literal(label) for label in held["label"]]
    figure = go.Figure()
    known = held["predicted"].notna()
    figure.add_scatter(
        x=held.loc[known, "predicted"],
        y=[label for label, there in zip(labels, known, strict=True) if there],
        mode="markers",
        name="predicted: the sum of its table",
        marker={"color": PREDICTED, "symbol": "diamond-open", "size": 12, "line": {"width": 2}},
        hovertemplate="%{y}<br>predicted %{x:.4g} nats<extra></extra>",
    )
    figure.add_scatter(
        x=held["delta_loss"],
        y=labels,
        error_x={"type": "data", "array": held["delta_standard_error"].fillna(0), "color": MEASURED},
        mode="markers+text",
        name="measured, one standard error",
        text=["  taken" if taken else "" for taken in held["taken"]],
        textposition="top center",
        marker={"color": MEASURED, "size": [16 if taken else 11 for taken in held["taken"]]},
        hovertemplate="%{y}<br>measured %{x:.4g} nats<extra></extra>",
    )
    figure.update_yaxes(categoryorder="array", categoryarray=labels)
    return finish(figure, x="rise of the loss, nats a token", y="", height=150 + 44 * len(held))


def guard_steps(frame: pd.DataFrame, *, max_kl: float | None, min_agreement: float | None) -> go.Figure:
    """What the plans keep that were tried, from the fewest bits up; above, what they may differ, below, their reasons.

    Args:
        frame: columns `stored_bits`, `kl_mean` (nats a token) and `agreement` (rank correlation, None where no maps
            were drawn).
        max_kl: the ceiling, None for none.
        min_agreement: the least agreement, None for none; without one the lower part is left out.
    """
    rows = 1 if min_agreement is None else 2
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    parts = [("kl_mean", "divergence, nats", MEASURED, max_kl), ("agreement", "agreement", PREDICTED, min_agreement)]
    for place, (column, title, colour, limit) in enumerate(parts[:rows], start=1):
        symbol = {"color": colour, "size": 10, "symbol": "circle" if place == 1 else "square"}
        figure.add_scatter(
            x=frame["stored_bits"],
            y=frame[column],
            mode="lines+markers",
            marker=symbol,
            name=title,
            showlegend=False,
            hovertemplate=f"%{{x:.3f}} stored bits<br>{title} %{{y:.4g}}<extra></extra>",
            row=place,
            col=1,
        )
        if limit is not None:
            figure.add_hline(y=limit, line={"color": CEILING, "width": 2, "dash": "dash"}, row=place, col=1)  # pyright: ignore[reportArgumentType]
    finish(figure, x="", y="", height=220 * rows + 40)
    figure.update_yaxes(title_text=parts[0][1], type="log", dtick="D2", minorloglabels="complete", row=1, col=1)
    if rows == 2:
        figure.update_yaxes(title_text=parts[1][1], row=2, col=1)
    return figure.update_xaxes(title_text="stored bits per weight", row=rows, col=1)
