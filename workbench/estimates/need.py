"""What a piece of work needs: seconds, and memory beyond what is held when it begins. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Need:
    """Time and memory of a piece of work.

    Attributes:
        seconds: that it takes.
        peak: most bytes that it holds at any moment, beyond those that were held before it.
        kept: bytes that stay held when it has ended.
    """

    seconds: float = 0.0
    peak: int = 0
    kept: int = 0

    def then(self, other: Need) -> Need:
        """This, and the other on top of what this leaves."""
        return Need(
            self.seconds + other.seconds, max(self.peak, self.kept + other.peak, self.kept), self.kept + other.kept
        )

    def times(self, count: float) -> Need:
        """The same many times over; each time lets go of what the time before kept."""
        return replace(self, seconds=self.seconds * count) if count > 0 else Need()

    def let_go(self) -> Need:
        """The same, with nothing kept."""
        return replace(self, kept=0)


def in_turn(parts: Iterable[Need]) -> Need:
    """One after the other."""
    whole = Need()
    for part in parts:
        whole = whole.then(part)
    return whole


def only(seconds: float) -> Need:
    """Work that holds nothing to speak of."""
    return Need(seconds)
