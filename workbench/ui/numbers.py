"""How numbers are written for people, in one place. No Streamlit here."""

from __future__ import annotations

import math

MINUS, NONE, TIMES = "\u2212", "\u2013", "\u00d7"
"""Signs that are not on a keyboard; NONE stands for a number that there is not."""


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A number with that many significant digits, `NONE` where there is none.

    Small and large magnitudes are written in powers of ten; `sign` also writes a plus.
    """
    if value is None or not math.isfinite(value):
        return NONE
    magnitude = abs(value)
    if magnitude and not 1e-3 <= magnitude < 1e6:
        text = f"{magnitude:.{digits - 1}e}"
    elif magnitude >= 10 ** (digits - 1):
        text = f"{magnitude:,.0f}"
    else:
        decimals = digits - 1 - (math.floor(math.log10(magnitude)) if magnitude else 0)
        text = f"{magnitude:.{min(decimals, digits + 2)}f}"
    mark = MINUS if value < 0 else "+" if sign and value > 0 else ""
    return mark + text


def percent(share: float | None, digits: int = 2) -> str:
    """A share of one as a percentage; what is above zero and under a thousandth of a percent is said to be that."""
    if share is None or not math.isfinite(share):
        return NONE
    return "under 0.001 %" if 0 < share < 1e-5 else f"{number(100 * share, digits)} %"


def size(count: float | None) -> str:
    """Bytes in a unit that a person reads at a glance (powers of 1000)."""
    if count is None or not math.isfinite(count):
        return NONE
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"


def duration(seconds: float | None) -> str:
    """A span of time in words, rounded as one would say it."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def plural(count: int, word: str, words: str | None = None) -> str:
    """A count with its noun: `1 matrix`, `28 matrices`."""
    return f"{count:,} {word if count == 1 else (words or word + 's')}"
