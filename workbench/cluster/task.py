"""The parts of one work while they are made: what waits, what is done, how much is sent at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from workbench.studies.context import CellStore
from workbench.studies.parts import Part, Work

IN_FLIGHT = 2
"""Bunches that a worker has at a time: the next one is there when it has made the first."""

BUNCH_SECONDS = 2.0
"""Work that is sent at once: what a lost worker costs, against what a message costs."""


@dataclass(eq=False)
class Task:
    """One call of `make`: what waits, and what is known about it."""

    work: Work
    number: int
    cells: CellStore
    waiting: deque[Part]
    total: int
    done: int = 0
    seconds: float = 0.0
    ended: dict[tuple[str, ...], int] = field(default_factory=dict)
    """How many workers a part, known by its keys, has ended."""

    def bunch(self, workers: int) -> tuple[Part, ...]:
        """The next parts, about `BUNCH_SECONDS` of work, and few enough that all workers end together."""
        fair = -(-len(self.waiting) // (2 * IN_FLIGHT * max(1, workers)))
        paced = int(BUNCH_SECONDS * self.done / self.seconds) if self.seconds > 0 else 1
        return tuple(self.waiting.popleft() for _ in range(min(len(self.waiting), max(1, min(fair, paced)))))
