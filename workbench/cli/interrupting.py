"""Ctrl-C while a command searches for something better: the best so far is kept and written."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.studies.hurry import Hurry


@contextmanager
def heeding_interrupts(hurry: Hurry) -> Iterator[None]:
    """In the body the first interrupt ends a search and lets the study go on; any other ends the command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hear(number: int, frame: Any) -> None:
        if not hurry.ask():
            raise KeyboardInterrupt
        told = "workbench: the search ends; the best plan so far is measured and written (again: leave at once)"
        print(f"\n{told}" if sys.stderr.isatty() else told, file=sys.stderr)

    former = signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
