"""The tokens of a prompt in one strip, coloured by score; a click or a key press answers which one was chosen.

Tokens travel as data and are set with `textContent` in the browser, so whatever a prompt holds is shown and nothing
of it is run. Colour is never alone: a bar under each token has the length of the score, striped for scores below
zero, and every token carries its number as tooltip and accessible name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components import v2 as components

from workbench.figures.style import signed_colour
from workbench.ui import session
from workbench.ui.escape import visible
from workbench.ui.numbers import number

SHOWN = 512
"""Tokens drawn at once; a longer prompt is shown in parts, because thousands of buttons freeze a browser."""

Span = tuple[int, int]
"""Position of the first and one past the last."""

LATEST = "latest-strip"
_FOLDER = Path(__file__).parent
_HTML = '<div class="strip" role="toolbar"></div><div class="legend" aria-hidden="true"></div>'


@dataclass(frozen=True)
class Look:
    """How a strip looks.

    Attributes:
        limit: the score that takes the full colour; by default the largest magnitude. Strips that are to be compared
            get the same limit.
        signed: whether the sign of a score means something.
        fixed: tokens that the method holds fixed, whose score is zero by construction.
        marked: tokens that a person marked.
        ends: what the two ends of the scale mean.
        unit: what one button holds: a token, a word, a sentence.
    """

    limit: float | None = None
    signed: bool = True
    fixed: Sequence[bool] | None = None
    marked: Sequence[bool] | None = None
    ends: tuple[str, str] = ("pushes against", "pushes towards")
    unit: str = "token"


def token_strip(
    tokens: Sequence[str],
    scores: Sequence[float | None],
    *,
    key: str,
    label: str,
    limit: float | None = None,
    signed: bool = True,
    fixed: Sequence[bool] | None = None,
    ends: tuple[str, str] = Look.ends,
) -> int | None:
    """Draw the strip; returns the position of the chosen token, or None.

    The choice is taken back by a second click (or Escape) and forgotten when the tokens change. The arguments are
    those of `span_strip` and of `Look`.
    """
    look = Look(limit=limit, signed=signed, fixed=fixed, ends=ends)
    chosen = _strip(tokens, scores, key, label, look, spans=False)
    return None if chosen is None else chosen[0]


def span_strip(
    tokens: Sequence[str], scores: Sequence[float | None], *, key: str, label: str, look: Look | None = None
) -> Span | None:
    """Draw a strip in which one token or a span of them can be chosen, the latter with the Shift key held.

    Args:
        tokens: texts of the tokens, as they are.
        scores: one a token, in the order of the tokens; None where there is no value.
        key: name of the strip, unique on the page.
        label: what a screen reader calls the strip.
        look: how it looks.
    """
    return _strip(tokens, scores, key, label, look or Look(), spans=True)


def latest_strip() -> str | None:
    """Key of the strip in which somebody last chose something."""
    return session.recall(LATEST)


def _strip(
    tokens: Sequence[str], scores: Sequence[float | None], key: str, label: str, look: Look, *, spans: bool
) -> Span | None:
    values = [_known(score) for score in scores]
    scale = look.limit or max((abs(value) for value in values if value is not None), default=0.0) or 1.0
    start = _part(len(tokens), key)
    part = slice(start, start + SHOWN)
    place = f"{key}-{_digest(tokens)}-{start}"
    data = _data(tokens[part], values[part], part, scale, look)
    kept = _within((st.session_state.get(place) or {}).get("selected"), len(data["tokens"]))
    data |= {"label": label, "spans": spans, "selected": kept, **_legend(scale, look)}
    remember = partial(session.remember, LATEST, key)
    answer = _component()(key=place, data=data, default={"selected": []}, on_selected_change=remember)
    chosen = _within(answer.get("selected"), len(data["tokens"]))
    return (start + chosen[0], start + chosen[1] + 1) if chosen else None


def _within(selected: Any, count: int) -> list[int]:
    """First and last of the chosen tokens as the browser tells them, empty where that is no span of this strip."""
    if not (isinstance(selected, list) and len(selected) == 2 and all(isinstance(one, int) for one in selected)):
        return []
    return selected if 0 <= selected[0] <= selected[1] < count else []


def _data(
    tokens: Sequence[str], values: Sequence[float | None], part: slice, scale: float, look: Look
) -> dict[str, Any]:
    shares = [0.0 if value is None else value / scale for value in values]
    shown = [visible(token) for token in tokens]
    fixed, marked = (list(flags[part]) if flags else [False] * len(shown) for flags in (look.fixed, look.marked))
    rows = enumerate(zip(shown, values, fixed, marked, strict=True), start=part.start + 1)
    return {
        "tokens": shown,
        "shares": [max(-1.0, min(1.0, share)) for share in shares],
        "colours": [signed_colour(share) for share in shares],
        "fixed": fixed,
        "marked": marked,
        "descriptions": [_description(place, look, *row) for place, row in rows],
    }


def _description(place: int, look: Look, token: str, value: float | None, held: bool, marked: bool) -> str:
    words = "no value" if value is None else f"score {number(value, sign=look.signed)}"
    added = [", held fixed"] * held + [", marked"] * marked
    return f"{look.unit} {place}, {token}: {words}{''.join(added)}"


def _legend(scale: float, look: Look) -> dict[str, Any]:
    if look.signed:
        colours = [signed_colour(share) for share in (-1, 0, 1)]
        return {"low": f"{number(-scale)} {look.ends[0]}", "high": f"{number(scale)} {look.ends[1]}", "scale": colours}
    colours = [signed_colour(share) for share in (0, 1)]
    return {"low": "0 does not count", "high": f"{number(scale)} counts most", "scale": colours}


def _part(count: int, key: str) -> int:
    if count <= SHOWN:
        return 0
    starts = list(range(0, count, SHOWN))
    return st.selectbox(
        "Part of the prompt",
        starts,
        format_func=lambda start: f"tokens {start + 1} to {min(start + SHOWN, count)} of {count}",
        key=f"{key}-part",
    )


def _component() -> Any:
    # on every run: Streamlit keeps an equal definition under its name, and a test starts with an empty register
    return components.component("salience_workbench_token_strip", html=_HTML, css=_read("css"), js=_read("js"))


def _read(ending: str) -> str:
    return (_FOLDER / f"token_strip.{ending}").read_text(encoding="utf-8")


def _known(score: float | None) -> float | None:
    return None if score is None or not math.isfinite(score) else float(score)


def _digest(tokens: Sequence[str]) -> str:
    return hashlib.sha256("\x00".join(tokens).encode("utf-8", "surrogatepass")).hexdigest()[:12]
