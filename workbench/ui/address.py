"""Choices live in three places: the widget, the browser session, and the page's address. This module keeps them one.

The address wins when it was given from outside: a link was opened, the browser went back. Otherwise the session wins,
so that a choice made on one page is found on the next page that has the same control. What differs from its default
is written into the address at the end of each run; an address thus holds the whole view. What an address asks of a
control that is not there yet, because its result is still to be computed, stays in the address until the control is.

Streamlit's own `bind="query-params"` was tried (1.67) and is not used: a value does not follow its key to another
page on the first visit, and `st.switch_page` raises while a bound control is on the page.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

CHOICES, WRITTEN, DRAWN = "_choices", "_address", "_drawn"
GIVEN, WAITING, WENT_BACK, PAGE, TURNED, BARE = "_given", "_waiting", "_went_back", "_page", "_turned", "_bare"
CUT_SHORT, RUNNING = "_cut_short", "_running"
REFUSED, SET_AT = "_refused", "_set_at"
SETTLING = 2.0
"""Seconds in which a value that was set is set again by every run: a browser that is given two runs at once draws the
second one alone, and with it a control of which nobody said what it holds."""
Texts = list[str]
"""Values of one name in an address; most names have one."""


class Refusal(NamedTuple):
    """What an address asked of a control, what stands there instead in the address's words, and its value."""

    asked: str
    instead: str
    value: Any


def begin(page: str) -> None:
    """Start a run of that page: take over what the address says if it was changed from outside."""
    st.session_state.setdefault(CHOICES, {})
    st.session_state.setdefault(BARE, [])
    st.session_state.setdefault(SET_AT, {})
    st.session_state[TURNED] = st.session_state.get(PAGE) != page
    st.session_state[PAGE] = page
    st.session_state[CUT_SHORT] = st.session_state.get(RUNNING, False)
    st.session_state[RUNNING] = True
    given = {name: st.query_params.get_all(name) for name in st.query_params}
    outside = given != st.session_state.get(WRITTEN, {})
    waiting = {} if st.session_state[TURNED] else st.session_state.get(WAITING, {})
    st.session_state[GIVEN] = given if outside else waiting
    filled_in = not given and page in st.session_state[BARE]
    if outside or st.session_state[TURNED]:
        st.session_state[REFUSED] = {}
    st.session_state[WENT_BACK] = outside and _is_history() and not filled_in
    st.session_state[DRAWN] = {}


def prepare(key: str, default: Any, read: Callable[[Texts], Any], accepts: Callable[[Any], bool]) -> None:
    """Put the right value into the session state before the widget of that key is drawn.

    Args:
        key: name of the widget, the choice and the address's part.
        default: value when nobody has chosen.
        read: makes a value of the address's texts; may raise ValueError.
        accepts: whether a value is a possible one; others give way to the default.
    """
    kept = st.session_state[CHOICES].get(key, default)
    value = _from_address(key, read, default if st.session_state[WENT_BACK] else kept)
    if value is _NOTHING:
        # a control of this key on the page that was left may have stood at another default
        unchosen = st.session_state[TURNED] and key not in st.session_state[CHOICES]
        value = default if unchosen else st.session_state.get(key, kept)
    if not accepts(value):
        value = default
    if _asks_in_vain(key, read, accepts):
        st.session_state[REFUSED][key] = Refusal(", ".join(st.session_state[GIVEN][key]), "", value)
    # Set only where it must be: a value that is set takes the place of what somebody is typing. On a page that was just
    # turned to, Streamlit still shows the value of the former page's widget here, but would draw the new one empty. So
    # it would after a run that another one cut short: what that one had set may never have reached the browser.
    again = st.session_state[TURNED] or st.session_state[CUT_SHORT]
    if again or key not in st.session_state or st.session_state[key] != value:
        st.session_state[SET_AT][key] = time.monotonic()
    if time.monotonic() - st.session_state[SET_AT].get(key, -math.inf) < SETTLING:
        st.session_state[key] = value


def turned() -> bool:
    """Whether this is the first run of a page after another one, or of a browser session."""
    return st.session_state[TURNED]


def asked(key: str) -> str | None:
    """What an address that was given from outside asks of a control; None once its run is over."""
    return st.session_state[GIVEN].get(key, [None])[0]


def note(key: str, value: Any, default: Any, write: Callable[[Any], Texts]) -> None:
    """Remember what the widget answered, and that it belongs into the address unless it is the default."""
    if value != default or key in st.session_state[CHOICES]:  # defaults differ from page to page, choices stay
        st.session_state[CHOICES][key] = value
    st.session_state[DRAWN][key] = [] if value == default else write(value)
    refusal = st.session_state[REFUSED].pop(key, None)
    if refusal is not None and value == refusal.value:  # nobody has chosen anything else since
        st.session_state[REFUSED][key] = refusal._replace(instead=", ".join(write(value)))


def refused() -> dict[str, Refusal]:
    """What the address asks of controls that do not offer it, by their keys, until somebody chooses there."""
    return dict(st.session_state[REFUSED])


def put(key: str, value: Any) -> None:
    """Change a choice from outside its widget; only before the widget is drawn, which means in a callback."""
    st.session_state[CHOICES][key] = value
    st.session_state[key] = value


def finish() -> None:
    """End a run: write the choices of the controls that were drawn into the address."""
    st.session_state[RUNNING] = False
    drawn = st.session_state[DRAWN]
    st.session_state[WAITING] = {name: texts for name, texts in st.session_state[GIVEN].items() if name not in drawn}
    wanted = {name: texts for name, texts in drawn.items() if texts} | st.session_state[WAITING]
    held = {name: st.query_params.get_all(name) for name in st.query_params}
    if wanted != held:
        # Turning the page empties the address. What is filled in then makes a second entry in the browser's history;
        # going back to the first, empty one must not be taken for going back to the defaults.
        if st.session_state[TURNED] and not held:
            st.session_state[BARE].append(st.session_state[PAGE])
        st.query_params.from_dict(wanted)
    st.session_state[WRITTEN] = wanted


_NOTHING = object()


def _from_address(key: str, read: Callable[[Texts], Any], absent: Any) -> Any:
    """The value that the address gives, `absent` after going back to an address without it, else nothing."""
    given = st.session_state[GIVEN]
    if key in given:
        try:
            return read(given[key])
        except ValueError:
            return _NOTHING
    return absent if st.session_state[WENT_BACK] else _NOTHING


def _asks_in_vain(key: str, read: Callable[[Texts], Any], accepts: Callable[[Any], bool]) -> bool:
    given = st.session_state[GIVEN]
    try:
        return key in given and not accepts(read(given[key]))
    except ValueError:
        return True


def _is_history() -> bool:
    context = get_script_run_ctx()
    return bool(getattr(context, "is_history_navigation", False))
