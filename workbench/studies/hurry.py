"""A word to a search that can always stop: make do with the best that was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Hurry:
    """Between one who waits and a study that searches.

    Attributes:
        asked: whether the study was asked to make do with what it has.
        searching: whether it is at a point where it could.
    """

    def __init__(self) -> None:
        self.asked = self.searching = False

    def ask(self) -> bool:
        """Ask the study to make do; False where that changes nothing: it is not searching, or was asked before."""
        if self.asked or not self.searching:
            return False
        self.asked = True
        return True

    @contextmanager
    def search(self) -> Iterator[None]:
        """While a search goes on."""
        self.searching = True
        try:
            yield
        finally:
            self.searching = False
