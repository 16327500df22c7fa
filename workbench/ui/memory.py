"""How much memory the model and the work on it may take: one field in the sidebar, a part of every job asked for.

A limit changes how a model is held and no result, so that questions stay the same under another one: pages ask for
results without it, and it is added where a job is submitted.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from workbench.sizes import parse_size
from workbench.ui import controls

KEY = "memory_limit"


def memory_bar() -> None:
    """Draw the field.

    Raises:
        WorkbenchError: what stands in it is no size.
    """
    given = controls.line(
        "Memory limit",
        key=KEY,
        limit=20,
        placeholder="none",
        help="Such as 4GiB; empty for the memory that is free. It counts the weights in memory and the work on them; "
        "Python itself takes 0.4 to 0.6 GiB beside it. A model that is too large for it is read from its files block "
        "by block, with equal results.",
    )
    _read(given)


def limited(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec under the limit that is chosen, for a job."""
    limit = _read(st.session_state.get(KEY) or "")
    return spec if limit is None else spec | {KEY: limit}


def _read(given: str) -> int | None:
    return parse_size(given, "Memory limit") if given.strip() else None
