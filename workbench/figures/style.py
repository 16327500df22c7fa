"""One look for every chart: colours that a colour-blind reader can tell apart, and one layout.

A colour means the same thing on every page. Magnitudes run along Cividis, signed values from blue (against) over white
to orange (towards), categories take the Okabe-Ito colours and a marker symbol each, so that colour is never alone.
Fonts and backgrounds are left to the page, which knows whether its theme is light or dark.
"""

from __future__ import annotations

import plotly.graph_objects as go

MAGNITUDE = "Cividis"
"""Colour scale of values that are never negative."""

NEGATIVE, NEUTRAL, POSITIVE = "#0072B2", "#FFFFFF", "#D55E00"
SIGNED: list[tuple[float, str]] = [(0.0, NEGATIVE), (0.5, NEUTRAL), (1.0, POSITIVE)]
"""Colour scale of signed values, to be used with limits that are symmetric around zero."""

CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's palette, in the order in which series take it."""

SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")
"""Marker symbols, one a series beside its colour."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""Strokes of lines that share a colour."""

BLEND = 0.85
"""Strongest blend of a signed colour with white behind text: black text keeps a contrast of at least 4.5 to 1."""


def category(index: int) -> tuple[str, str]:
    """Colour and marker symbol of the series with that index; 64 differ in one of the two."""
    return CATEGORIES[index % len(CATEGORIES)], SYMBOLS[(index + index // len(CATEGORIES)) % len(SYMBOLS)]


def signed_colour(share: float) -> str:
    """The colour of a signed value behind black text.

    Args:
        share: the value divided by the scale's limit; values outside -1..1 take the end colour.

    Returns:
        `rgb(r, g, b)`: white at zero, at most `BLEND` of the end colour.
    """
    weight = BLEND * min(1.0, abs(share))
    end = POSITIVE if share > 0 else NEGATIVE
    parts = [int(end[start : start + 2], 16) for start in (1, 3, 5)]
    mixed = [round(255 + (part - 255) * weight) for part in parts]
    return f"rgb({mixed[0]}, {mixed[1]}, {mixed[2]})"


def finish(figure: go.Figure, *, x: str, y: str, height: int = 380) -> go.Figure:
    """Give a figure the house's layout and its axis titles; returns the same figure.

    The title of a chart stands in the page above it, where a screen reader finds it, and is not drawn a second time.
    """
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 24, "b": 8},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"align": "left"},
        separators=".,",
    )
    figure.update_xaxes(title_text=x, automargin=True)
    figure.update_yaxes(title_text=y, automargin=True)
    return figure
