"""Figures that are made once for what they show: building one takes longer than all else that a page does with it.

A figure is a pure function of its arguments (`workbench.figures`), and `drawing(builder, ...)` stands for its call.
What is sent to the browser is kept under the name of the builder and the content of the arguments: a page that is run
again with the same result, for whatever reason, builds nothing. What is kept is text, bounded in bytes and in number.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st

KEPT, ROOM = 128, "24MB"
"""Figures that are kept, and the room that they may take, in all sessions together."""


@dataclass(frozen=True)
class Drawing:
    """A figure that is made when it is needed.

    Attributes:
        make: makes it.
        key: equal for equal builders of equal arguments; None where that cannot be told.
    """

    make: Callable[[], go.Figure]
    key: str | None


def drawing(builder: Callable[..., go.Figure], *arguments: Any, **named: Any) -> Drawing:
    """Stands for `builder(*arguments, **named)`; the builder returns the same for the same."""
    return Drawing(lambda: builder(*arguments, **named), _key(builder, arguments, named))


def plain(asked: Drawing, ink: str) -> go.Figure:
    """The figure for `st.plotly_chart`, its text in a colour; it cannot be changed any more."""
    text = _text(asked, ink) if asked.key is None else _kept_text(asked.key, ink, asked)
    return _Plain(json.loads(text))


def _key(builder: Callable[..., go.Figure], arguments: tuple[Any, ...], named: dict[str, Any]) -> str | None:
    """Pickled here is what is hashed, and never read back: equal bytes can only come from equal arguments."""
    try:
        held = pickle.dumps((builder.__module__, builder.__qualname__, arguments, named), protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError):
        return None
    return hashlib.blake2b(held, digest_size=24).hexdigest()


@st.cache_data(show_spinner=False, max_entries=KEPT, max_size=ROOM)
def _kept_text(key: str, ink: str, _asked: Drawing) -> str:
    return _text(_asked, ink)


def _text(asked: Drawing, ink: str) -> str:
    figure = asked.make()
    _write_in(figure, ink)
    return str(figure.to_json(validate=False))


def _write_in(figure: go.Figure, ink: str) -> None:
    """Write axes and colour bars in the full text colour; the theme's own is too pale for small text (3.9 to 1)."""
    figure.update_layout(font_color=ink)
    for axes in (figure.update_xaxes, figure.update_yaxes):
        axes(tickfont_color=ink, title_font_color=ink)
    figure.update_traces(colorbar={"tickfont": {"color": ink}, "title": {"font": {"color": ink}}}, selector="heatmap")


class _Plain(go.Figure):
    """A figure that was checked when it was built and is sent as it is; Streamlit asks a figure for `to_dict` alone.

    A plain dict would be validated property by property at every run.
    """

    def __init__(self, sent: dict[str, Any]) -> None:
        self._sent = sent

    def to_dict(self) -> dict[str, Any]:
        """What the browser is sent."""
        return self._sent
