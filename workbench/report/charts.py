"""The charts of a report as inline SVG, drawn by matplotlib without a display.

Lines and letters take the colour of the text around them, so that one drawing serves a light and a dark page. Letters
stay letters. Every id is made unique, because several drawings stand in one page.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from workbench.figures.style import CATEGORIES
from workbench.report.markup import Html, tag, together
from workbench.ui.numbers import NONE, number

INK = "#0a0b0c"
"""Stands for the colour of the text until the drawing is written."""

_MARKERS = ("o", "s", "D", "P", "^", "X", "*", "h")
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
_LOOK: dict[str, Any] = {
    **dict.fromkeys(_INKED, INK),
    "text.parse_math": False,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_LINE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
"""Colours of `figures.style` but black and yellow, which one of the two backgrounds swallows; grey in their place."""

_ONE_AT_A_TIME = threading.Lock()
"""The look is set for all of matplotlib, and browser sessions are threads."""

Rows = Sequence[Mapping[str, Any]]


def error_chart(rows: Rows, alt: str) -> Html:
    """Relative output error by block, a line a role; rows have `block`, `role` and `output_error`."""
    with _drawing("errors", alt) as (axes, drawn):
        roles = list(dict.fromkeys(row["role"] for row in rows))
        for place, role in enumerate(roles):
            mine = [row for row in rows if row["role"] == role]
            at = [-1 if row["block"] is None else row["block"] for row in mine]
            axes.plot(at, [row["output_error"] for row in mine], label=role, **_series(place))
        _scale(axes, log=all(row["output_error"] > 0 for row in rows))
        axes.set(xlabel="block of layers, from the input on", ylabel="relative error of the outputs")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return drawn[0]


def bits_chart(rows: Rows, alt: str) -> Html:
    """The width of every matrix, a row a role and a column a block; rows have `block`, `role` and `bits`."""
    roles = list(dict.fromkeys(row["role"] for row in rows))
    blocks = sorted({row["block"] for row in rows}, key=lambda one: -1 if one is None else one)
    with _drawing("bits", alt, height=1.2 + 0.34 * len(roles)) as (axes, drawn):
        shades = mpl.colormaps["cividis"]
        for row in rows:
            x, y = blocks.index(row["block"]), roles.index(row["role"])
            share = min(1.0, row["bits"] / 8)
            axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, facecolor=shades(share)))
            ink = "white" if share < 0.5 else "black"
            axes.text(x, y, f"{row['bits']:g}", ha="center", va="center", color=ink, fontsize=9)
        axes.set(xlim=(-0.6, len(blocks) - 0.4), ylim=(len(roles) - 0.4, -0.6), xlabel="block of layers")
        axes.set_xticks(range(len(blocks)), [NONE if one is None else str(one) for one in blocks])
        axes.set_yticks(range(len(roles)), roles)
        axes.grid(visible=False)
    return drawn[0]


def quality_chart(uniform: Rows, chosen: Mapping[str, Any], full: float, alt: str) -> Html:
    """Perplexity against stored bits: uniform widths, the choice, and the full model as a dashed line."""
    with _drawing("quality", alt) as (axes, drawn):
        known = sorted((row for row in uniform if row["perplexity"]), key=lambda row: row["stored_bits"])
        points = [row["stored_bits"] for row in known], [row["perplexity"] for row in known]
        axes.plot(*points, label="one width for all", **_series(0))
        if chosen["perplexity"]:
            at = [chosen["stored_bits"]], [chosen["perplexity"]]
            axes.plot(*at, label="this choice", marker="*", ms=15, ls="", color=CATEGORIES[5])
        axes.axhline(full, label="full precision", ls="--", color=INK, lw=1)
        worst = max([full, *points[1]])
        _scale(axes, log=worst > 3 * full)
        axes.set(xlabel="stored bits a weight", ylabel="perplexity, lower is better")
        axes.legend(fontsize=9)
    return drawn[0]


def _scale(axes: Axes, *, log: bool) -> None:
    """A logarithmic axis whose numbers are plain text: matplotlib writes its own as formulas."""
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 2)))


def _series(place: int) -> dict[str, Any]:
    return {"color": _LINE[place % len(_LINE)], "marker": _MARKERS[place % len(_MARKERS)], "lw": 1.5}


@contextmanager
def _drawing(name: str, alt: str, height: float = 3.4) -> Iterator[tuple[Axes, list[Html]]]:
    """Axes to draw on, and a list that holds the drawing when they are done with."""
    drawn: list[Html] = []
    look: dict[Any, Any] = {**_LOOK, "svg.hashsalt": name}
    with _ONE_AT_A_TIME, mpl.rc_context(look):
        figure = Figure(figsize=(7.6, height), layout="constrained")
        yield figure.add_subplot(), drawn
        drawn.append(_written(figure, name, alt))


def _written(figure: Figure, name: str, alt: str) -> Html:
    held = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(held, format="svg", transparent=True, metadata=nothing)
    text = held.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text).replace(INK, "currentColor")
    start = text.index(">") + 1
    named = f'<svg role="img" aria-labelledby="{name}-alt"' + text[4:start]
    return together([Html(named), tag("title", alt, id=f"{name}-alt"), Html(text[start:].strip())])
