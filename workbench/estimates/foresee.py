"""What a question would need, worked out without answering it, and refused where the run would be refused."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from workbench.estimates.estimate import size_words, time_words
from workbench.estimates.fitting import room_for
from workbench.estimates.opening import open_to_fit
from workbench.progress import Steps
from workbench.studies.context import Context

CHECKING = 2.0
"""Seconds after which a study that reports no work yet is believed to have looked at its question."""


@dataclass(frozen=True)
class Foreseen:
    """What is expected of a run.

    Attributes:
        kind: of study.
        seconds: that it takes; None where nothing is known beforehand, as of encoders.
        needed: bytes that it takes at most beside program and model; None likewise.
        free: bytes that are free for that now, or that a limit leaves; None likewise.
        held: bytes that program and model hold already; None likewise.
    """

    kind: str
    seconds: float | None = None
    needed: int | None = None
    free: int | None = None
    held: int | None = None

    @property
    def peak(self) -> int | None:
        """Bytes that the whole process holds at most."""
        return None if self.needed is None or self.held is None else self.needed + self.held

    @property
    def words(self) -> str:
        """In a line, without the kind."""
        if self.seconds is None or self.needed is None or self.free is None or self.peak is None:
            return "nothing is known beforehand"
        memory = f"{size_words(self.needed)} of memory beside program and model, {size_words(self.peak)} in all"
        return f"about {time_words(self.seconds)}; {memory}; {size_words(self.free)} are free for it"


def foresee(kind: str, spec: Mapping[str, Any], context: Context) -> Steps[Foreseen]:
    """Estimate a study. The model is opened and its speed measured; the study itself only checks what it was asked.

    Args:
        kind: of study.
        spec: as `studies.start` takes it.
        context: what the process shares; keeps what is measured of the model's speed.

    Raises:
        WorkbenchError: whatever the run would refuse before it computes, too little memory among it.
    """
    opened = yield from open_to_fit(kind, spec, context)
    bench, found = opened.bench, opened.estimate
    yield from _checked(opened.study)
    if bench is None or found is None:
        return Foreseen(kind)
    free = room_for(bench).bytes
    needed = min(found.peak, free) if opened.streamed else found.peak  # what streams keeps to its limit block by block
    return Foreseen(kind, found.seconds, needed, free, psutil.Process().memory_info().rss)


def _checked(study: Steps[Any]) -> Steps[None]:
    """Let a study look at its question: up to its first report of work that is done."""
    until = time.monotonic() + CHECKING
    try:
        while (progress := next(study)).done == 0 and time.monotonic() < until:
            yield progress
    except StopIteration:
        return
    finally:
        study.close()
