"""Quality against size: a point a choice of quantization, the full model as a line."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.frames import keep
from workbench.figures.labels import literal
from workbench.figures.style import category, finish

KINDS = {"uniform": "one width for all", "plan": "plans of this session", "front": "solved, decided by measuring"}
FULL = "#808080"
MANY_TICKS = 3000
"""Where perplexities differ by more than this factor, only powers of ten are written."""


def tradeoff_scatter(
    points: pd.DataFrame, *, reference: float, selected: str | None = None, pinned: str | None = None
) -> go.Figure:
    """Stored bits against perplexity, lower and further left is better; a click answers with a place in the frame.

    Args:
        points: columns `label`, `kind` (what shares a colour: a key of `KINDS`, or names such as quantizers),
            `stored_bits`, `perplexity` (not finite: left out), `error` (length of the error bar, in perplexity) and
            `dominated`; with a column `mark`, that is written beside a point instead of its label.
        reference: perplexity of the full model.
        selected: label of the chosen point.
        pinned: label of the point that others are held against; dotted lines cross in it.
    """
    held = points.reset_index(drop=True)
    drawn = keep(held, [math.isfinite(value) for value in held["perplexity"].tolist()])
    figure = go.Figure()
    _add_front(figure, drawn)
    sizes = drawn["stored_bits"].tolist() or [0.0]
    middle = (min(sizes) + max(sizes)) / 2
    others = [kind for kind in dict.fromkeys(held["kind"]) if kind not in KINDS]
    kinds = [*(KINDS if len(others) < len(set(held["kind"])) else ()), *others]
    for index, kind in enumerate(kinds):
        part = keep(drawn, drawn["kind"] == kind)
        if len(part):
            _add_points(figure, part, literal(KINDS.get(kind, kind)), index, selected, middle)
    _add_reference(figure, reference)
    _add_pinned(figure, keep(drawn, drawn["label"] == pinned))
    heights = [reference, *drawn["perplexity"].tolist()]
    wide = max(heights) > MANY_TICKS * min(heights)
    figure.update_yaxes(type="log", dtick=1 if wide else "D2", minorloglabels="complete")
    if wide:
        figure.update_yaxes(exponentformat="power")
    figure.update_layout(clickmode="event+select", hovermode="closest")
    return finish(figure, x="stored bits per weight", y="perplexity", height=460)


def _add_front(figure: go.Figure, drawn: pd.DataFrame) -> None:
    """A thin line through the points that no other point beats."""
    front = keep(drawn, [not beaten for beaten in drawn["dominated"]]).sort_values("stored_bits")
    line = {"color": FULL, "width": 1}
    figure.add_scatter(
        x=front["stored_bits"], y=front["perplexity"], mode="lines", line=line, hoverinfo="skip", showlegend=False
    )


def _add_reference(figure: go.Figure, reference: float) -> None:
    figure.add_hline(y=reference, line={"color": FULL, "width": 2, "dash": "dash"})
    # on a logarithmic axis Plotly places annotations, unlike lines, by the exponent
    words = f"full model: {reference:.4g}"
    height = math.log10(reference)
    figure.add_annotation(x=1, xref="paper", xanchor="right", y=height, yanchor="top", text=words, showarrow=False)


def _add_pinned(figure: go.Figure, pinned: pd.DataFrame) -> None:
    """Dotted lines through the pinned point: what lies below and to the left is better in both."""
    line = {"color": FULL, "width": 1, "dash": "dot"}
    for size, height in zip(pinned["stored_bits"], pinned["perplexity"], strict=True):
        figure.add_vline(x=size, line=line)
        figure.add_hline(y=height, line=line)


def _add_points(
    figure: go.Figure, part: pd.DataFrame, name: str, index: int, selected: str | None, middle: float
) -> None:
    colour, symbol = category(index)
    symbols = [f"{symbol}-open" if dominated else symbol for dominated in part["dominated"]]
    sizes = [18 if label == selected else 12 for label in part["label"]]
    labels = [literal(label) for label in part["label"]]
    full = {"marker": {"opacity": 1}}
    # the legend would show the first point's symbol, hollow where that one is beaten
    filled = {"color": colour, "symbol": symbol, "size": 10}
    figure.add_scatter(x=[None], y=[None], mode="markers", name=name, legendgroup=name, marker=filled)
    figure.add_scatter(
        x=part["stored_bits"],
        y=part["perplexity"],
        error_y={"type": "data", "array": part["error"].fillna(0), "color": colour},
        mode="markers+text",
        text=[literal(mark) for mark in part["mark"]] if "mark" in part else labels,
        textposition=["top left" if size > middle else "top right" for size in part["stored_bits"]],
        name=name,
        legendgroup=name,
        showlegend=False,
        marker={"color": colour, "symbol": symbols, "size": sizes, "line": {"width": 2, "color": colour}},
        selected=full,
        unselected=full,
        customdata=[[int(place), label] for place, label in zip(part.index, labels, strict=True)],
        hovertemplate="%{customdata[1]}<br>%{x:.3f} stored bits<br>perplexity %{y:.4g}<extra></extra>",
    )
