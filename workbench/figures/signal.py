"""How the signal travels through the blocks, in the full model and in quantized ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.frames import keep
from workbench.figures.labels import literal
from workbench.figures.style import DASHES, category, finish

MEASURES = {"mean_square": "mean square", "variance": "variance", "signal_error": "signal error"}
"""Column -> what it is, a panel each from left to right."""

FULL = "#808080"


def signal_by_depth(frame: pd.DataFrame, *, full: str, selected: str | None = None) -> go.Figure:
    """Three panels over the depth, all with the same lines: size and spread of the hidden states, and their error.

    A quantizer has a colour and a symbol, its choices differ by the stroke of the line; the full model is a wide grey
    line. All panels are logarithmic: values that are not above zero are left out.

    Args:
        frame: columns `label`, `kind` (what shares a colour, such as the quantizer), `block` (index), `mean_square`,
            `variance` and `signal_error` (missing for the full model).
        full: label of the full model.
        selected: label of the line that is drawn thicker.
    """
    figure = make_subplots(rows=1, cols=len(MEASURES), horizontal_spacing=0.11)
    known = frame.drop_duplicates("label")
    kinds = list(dict.fromkeys(keep(known, known["label"] != full)["kind"]))
    before: dict[str, int] = {}
    for label, kind in zip(known["label"], known["kind"], strict=True):
        part = keep(frame, frame["label"] == label)
        if label == full:
            _add_line(figure, part, {"color": FULL, "width": 6}, None)
            continue
        colour, symbol = category(kinds.index(kind))
        before[kind] = before.get(kind, -1) + 1
        line = {"color": colour, "width": 4 if label == selected else 1.5, "dash": DASHES[before[kind] % len(DASHES)]}
        _add_line(figure, part, line, {"symbol": symbol, "size": 11 if label == selected else 7, "color": colour})
    finish(figure, x="block", y="", height=400)
    for column, (name, title) in enumerate(MEASURES.items(), start=1):
        figure.update_yaxes(title_text=title, type="log", row=1, col=column, **_ticks(frame[name].tolist()))
    figure.update_xaxes(dtick=max(1, len(set(frame["block"])) // 6))
    figure.update_layout(legend={"entrywidthmode": "pixels"}, margin={"t": 24})
    return figure


def _add_line(figure: go.Figure, part: pd.DataFrame, line: dict[str, Any], marker: dict[str, Any] | None) -> None:
    label = literal(part["label"].iloc[0])
    for column, (name, title) in enumerate(MEASURES.items(), start=1):
        values = [float(value) if value > 0 else None for value in part[name].astype(float)]
        if not any(values):
            continue
        figure.add_scatter(
            x=part["block"],
            y=values,
            mode="lines" if marker is None else "lines+markers",
            name=label,
            legendgroup=label,
            showlegend=column == 1,
            line=line,
            marker=marker,
            hovertemplate=f"block %{{x}}<br>{title} %{{y:.3g}}<extra>{label}</extra>",
            row=1,
            col=column,
        )


def _ticks(values: Sequence[float]) -> dict[str, Any]:
    """Whole powers of ten where values reach over several, else 1, 2, 5."""
    known = [value for value in values if value == value and value > 0]
    ticks = {"exponentformat": "power" if known and min(known) < 1e-3 else "none"}
    wide = bool(known) and max(known) > 1000 * min(known)
    return ticks | ({"dtick": 1} if wide else {"dtick": "D2", "minorloglabels": "complete"})
