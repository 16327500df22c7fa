"""How long work reports itself: a study is a generator that yields `Progress` and returns its result."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` steps of equal worth, and a few words on what is being done now."""

    done: float
    total: float
    note: str = ""


Steps = Generator[Progress, None, T]
"""The type of a study: yields `Progress` at least every half second of work, returns a `T`."""


def run(steps: Steps[T], on_progress: Callable[[Progress], None] | None = None) -> T:
    """Run a study in the caller's thread and return its result.

    `on_progress` is called on every yield; an exception that it raises (a cancel) closes the study, so that its
    `finally` blocks put the model back.
    """
    try:
        while True:
            progress = next(steps)
            if on_progress is not None:
                on_progress(progress)
    except StopIteration as finished:
        return finished.value
    finally:
        steps.close()


def within(steps: Steps[T], start: float, stop: float, total: float = 1.0) -> Steps[T]:
    """Run a part of a larger study, its progress mapped to `start`..`stop` out of `total`."""
    try:
        while True:
            progress = next(steps)
            share = progress.done / progress.total if progress.total else 1.0
            yield Progress(start + (stop - start) * share, total, progress.note)
    except StopIteration as finished:
        return finished.value
    finally:
        steps.close()
