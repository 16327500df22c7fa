"""The controls of all pages: Streamlit's widgets, joined to the address, with checked values.

Labels are Markdown for Streamlit: a label made of somebody else's text is escaped here. Options of select boxes are
plain text. A control that is used on two pages under one key holds one choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

from workbench.ui import address
from workbench.ui.escape import markdown

T = TypeVar("T")
TEXT_LIMIT = 500
"""Longest text option of a method, in characters."""


def select(
    label: str,
    options: Sequence[T],
    default: T | None = None,
    *,
    key: str,
    show: Callable[[T], str] = str,
    **extra: Any,
) -> T:
    """A select box; what stands in the address is what is shown."""
    first = default if default in options else options[0]
    by_text = {show(option): option for option in options}
    address.prepare(key, first, lambda texts: _find(by_text, texts[0]), options.__contains__)
    value = st.selectbox(label, options, key=key, format_func=show, **extra)
    address.note(key, value, first, lambda chosen: [show(chosen)])
    return value


def segments(
    label: str, options: Sequence[T], default: T, *, key: str, show: Callable[[T], str] = str, **extra: Any
) -> T:
    """A row of buttons of which one is chosen."""
    by_text = {show(option): option for option in options}
    address.prepare(key, default, lambda texts: _find(by_text, texts[0]), options.__contains__)
    value = st.segmented_control(label, options, required=True, key=key, format_func=_escaped(show), **extra)
    chosen = default if value is None else value
    address.note(key, chosen, default, lambda one: [show(one)])
    return chosen


def segments_many(
    label: str, options: Sequence[T], default: Sequence[T], *, key: str, show: Callable[[T], str] = str, **extra: Any
) -> list[T]:
    """A row of buttons of which several are chosen; all of the default when none is."""
    _prepare_several(key, options, default, show)
    chosen = st.segmented_control(label, options, selection_mode="multi", key=key, format_func=_escaped(show), **extra)
    values = [option for option in options if option in chosen] or list(default)
    address.note(key, values, list(default), lambda some: [show(one) for one in some])
    return values


def several(
    label: str, options: Sequence[T], default: Sequence[T], *, key: str, show: Callable[[T], str] = str, **extra: Any
) -> list[T]:
    """A box that holds several of many options, in the order in which they were chosen; the default when none is."""
    _prepare_several(key, options, default, show)
    values = list(st.multiselect(label, options, key=key, format_func=show, **extra)) or list(default)
    address.note(key, values, list(default), lambda some: [show(one) for one in some])
    return values


def toggle(label: str, default: bool = False, *, key: str, **extra: Any) -> bool:
    """A switch."""
    address.prepare(
        key, default, lambda texts: _find({"true": True, "false": False}, texts[0]), (True, False).__contains__
    )
    value = st.toggle(label, key=key, **extra)
    address.note(key, value, default, lambda on: [str(on).lower()])
    return value


def number(
    label: str,
    default: int | float,
    *,
    key: str,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    **extra: Any,
) -> Any:
    """A number box; whole numbers when the default is an int. Bounds are given in the numbers' own unit."""
    kind = type(default)
    least, most = (None if bound is None else kind(bound) for bound in (low, high))
    address.prepare(
        key, default, lambda texts: _read_number(kind, texts[0]), lambda value: _within(kind, value, least, most)
    )
    if step is None:  # a tenth of the default: defaults reach from 1e-6 to 1e6
        step = 1 if kind is int else abs(default) / 10 or 0.1
    shape = "%d" if kind is int else "%.6g"
    value = st.number_input(label, least, most, step=kind(step), format=shape, key=key, **extra)
    value = default if value is None else value
    address.note(key, value, default, lambda chosen: [repr(chosen)])
    return value


def slider(label: str, default: float, *, key: str, low: float, high: float, step: float, **extra: Any) -> float:
    """A slider; a value outside its bounds cannot be chosen, and one in the address gives way to the default."""
    address.prepare(
        key, default, lambda texts: _read_number(float, texts[0]), lambda value: _within(float, value, low, high)
    )
    value = st.slider(label, low, high, step=step, key=key, **extra)
    address.note(key, value, default, lambda chosen: [repr(chosen)])
    return value


def line(label: str, default: str = "", *, key: str, limit: int = TEXT_LIMIT, **extra: Any) -> str:
    """A box for one line of text."""
    address.prepare(key, default, _first, lambda value: isinstance(value, str) and len(value) <= limit)
    value = st.text_input(label, max_chars=limit, key=key, **extra) or ""
    address.note(key, value, default, lambda text: [text])
    return value


def area(label: str, default: str = "", *, key: str, limit: int, **extra: Any) -> str:
    """A box for several lines of text; what is beyond the limit is left out, and a sentence says so.

    A limit of the widget's own would drop a paste without a word. A text over the limit is not put into the address.
    """
    address.prepare(key, default, _first, lambda value: isinstance(value, str))
    value = st.text_area(label, key=key, **extra) or ""
    if len(value) > limit:
        st.warning(f"{label} has {len(value):,} characters; the first {limit:,} are read.")
    else:
        address.note(key, value, default, lambda text: [text])
    return value[:limit]


def option(described: dict[str, Any], method: str, **extra: Any) -> Any:
    """The control of a method's option, from what the method says of it; returns its value.

    Args:
        described: `name`, `type` (int, float, bool, choice or str), `default`, `choices`, `minimum`, `maximum`.
        method: name of the method; part of the key, because two methods may have options of one name.
        extra: for the widget.
    """
    label, key, default = (
        markdown(described["name"].replace("_", " ")),
        f"{method}.{described['name']}",
        described["default"],
    )
    if described["type"] == "bool":
        return toggle(label, default, key=key, **extra)
    if described["type"] == "choice":
        return select(label, list(described["choices"]), str(default), key=key, **extra)
    if described["type"] in ("int", "float"):
        kind = int if described["type"] == "int" else float
        return number(label, kind(default), key=key, low=described["minimum"], high=described["maximum"], **extra)
    return line(label, default, key=key, **extra)


def _prepare_several(key: str, options: Sequence[T], default: Sequence[T], show: Callable[[T], str]) -> None:
    """An address names several values one by one, or in one with commas between them."""
    by_text = {show(option): option for option in options}
    address.prepare(
        key,
        list(default),
        lambda texts: [_find(by_text, part) for text in texts for part in _parts(by_text, text)],
        lambda values: isinstance(values, list) and all(value in options for value in values),
    )


def _parts(by_text: dict[str, Any], text: str) -> list[str]:
    return [text] if text in by_text else text.split(",")


def _escaped(show: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda one: markdown(show(one))


def _first(texts: list[str]) -> str:
    return texts[0]


def _find(by_text: dict[str, T], text: str) -> T:
    if text not in by_text:
        raise ValueError(text)
    return by_text[text]


def _read_number(kind: type[int] | type[float], text: str) -> int | float:
    if len(text) > 40:
        raise ValueError(text)
    return kind(text)


def _within(kind: type[int] | type[float], value: Any, least: float | None, most: float | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return (least is None or value >= least) and (most is None or value <= most) and value == value
