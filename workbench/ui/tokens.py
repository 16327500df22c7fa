"""The tokens of a prompt in one strip, coloured by score; a click or a key press answers which one was chosen.

Tokens travel as data and are set with `textContent` in the browser, so whatever a prompt holds is shown and nothing
of it is run. Colour is never alone: a bar under each token has the length of the score, striped for scores below
zero, and every token carries its number as tooltip and accessible name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components import v2 as components

from workbench.figures.style import signed_colour
from workbench.ui.escape import visible
from workbench.ui.numbers import number

SHOWN = 512
"""Tokens drawn at once; a longer prompt is shown in parts, because thousands of buttons freeze a browser."""

_FOLDER = Path(__file__).parent
_HTML = '<div class="strip" role="toolbar"></div><div class="legend" aria-hidden="true"></div>'


def token_strip(
    tokens: Sequence[str],
    scores: Sequence[float | None],
    *,
    key: str,
    label: str,
    limit: float | None = None,
    signed: bool = True,
    fixed: Sequence[bool] | None = None,
    ends: tuple[str, str] = ("pushes against", "pushes towards"),
) -> int | None:
    """Draw the strip; returns the position of the chosen token, or None.

    The choice is taken back by a second click (or Escape) and forgotten when the tokens change.

    Args:
        tokens: texts of the tokens, as they are.
        scores: one a token, in the order of the tokens; None where there is no value.
        key: name of the strip, unique on the page.
        label: what a screen reader calls the strip.
        limit: the score that takes the full colour; by default the largest magnitude. Strips that are to be compared
            get the same limit.
        signed: whether the sign of a score means something.
        fixed: tokens that the method holds fixed, whose score is zero by construction.
        ends: what the two ends of the scale mean.
    """
    values = [_known(score) for score in scores]
    scale = limit or max((abs(value) for value in values if value is not None), default=0.0) or 1.0
    start = _part(len(tokens), key)
    shown = slice(start, start + SHOWN)
    place = f"{key}-{_digest(tokens)}-{start}"
    kept = (st.session_state.get(place) or {}).get("selected")
    selected = kept if isinstance(kept, int) and kept >= 0 else None
    held = list(fixed or [False] * len(tokens))
    data = _data(tokens[shown], values[shown], held[shown], scale, signed, start)
    data |= {"label": label, "selected": selected, **_legend(scale, signed, ends)}
    answer = _component()(key=place, data=data, default={"selected": -1}, on_selected_change=_nothing)
    chosen = answer.get("selected")
    return start + chosen if isinstance(chosen, int) and 0 <= chosen < len(data["tokens"]) else None


def _data(
    tokens: Sequence[str], values: Sequence[float | None], fixed: list[bool], scale: float, signed: bool, start: int
) -> dict[str, Any]:
    shares = [0.0 if value is None else value / scale for value in values]
    shown = [visible(token) for token in tokens]
    rows = enumerate(zip(shown, values, fixed, strict=True), start=start + 1)
    return {
        "tokens": shown,
        "shares": [max(-1.0, min(1.0, share)) for share in shares],
        "colours": [signed_colour(share) for share in shares],
        "fixed": fixed,
        "descriptions": [_description(place, token, value, held, signed) for place, (token, value, held) in rows],
    }


def _description(place: int, token: str, value: float | None, held: bool, signed: bool) -> str:
    words = "no value" if value is None else f"score {number(value, sign=signed)}"
    return f"token {place}, {token}: {words}{', held fixed' if held else ''}"


def _legend(scale: float, signed: bool, ends: tuple[str, str]) -> dict[str, Any]:
    if signed:
        colours = [signed_colour(share) for share in (-1, 0, 1)]
        return {"low": f"{number(-scale)} {ends[0]}", "high": f"{number(scale)} {ends[1]}", "scale": colours}
    return {"low": "0", "high": number(scale), "scale": [signed_colour(0), signed_colour(1)]}


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


def _nothing() -> None:
    """Declares the state `selected`; the run that a choice starts reads it."""
