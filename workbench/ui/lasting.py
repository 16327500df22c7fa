"""What lasts as long as the process is left out of garbage collections.

Streamlit collects garbage after every run of a page. Nearly all that it walks through then are modules, which never
become garbage: measured here, 80 ms of processor time a run, more than most pages need for themselves. So what is there
when a page has been drawn for the first time, and its modules with it, is frozen (`gc.freeze`); later collections walk
through what came since. Whatever of it ends later is freed when nothing refers to it, as ever; only rings of objects
that were frozen stay, a dozen times at most.
"""

from __future__ import annotations

import gc
import threading

_drawn: set[str] = set()
_to_freeze = threading.Event()


def begin_run() -> None:
    """Freeze what the first run of some page has brought, now that Streamlit has collected what it left."""
    if _to_freeze.is_set():
        _to_freeze.clear()
        gc.freeze()


def end_run(page: str) -> None:
    """Note that a page was drawn."""
    if page not in _drawn:
        _drawn.add(page)
        _to_freeze.set()
