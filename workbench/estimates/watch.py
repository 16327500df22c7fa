"""A study that is estimated before it runs, refused where it cannot fit, and measured while it runs."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil

from workbench.estimates.estimate import Estimate, look, try_to_estimate
from workbench.estimates.fitting import check_fits
from workbench.estimates.record import Record, record_key
from workbench.model.load import LoadedModel
from workbench.progress import Progress, Steps
from workbench.studies.context import Context

T = TypeVar("T")
INTERVAL = 0.05
"""Seconds between two looks at the memory of the process."""


def watched(
    kind: str,
    loaded: LoadedModel,
    spec: Mapping[str, Any],
    context: Context,
    steps: Steps[T],
    *,
    asked: Mapping[str, Any] | None = None,
) -> Steps[T]:
    """Run a study with its estimate before it and the truth beside it.

    Args:
        kind: of study.
        loaded: the model.
        spec: the study's keywords.
        context: what the process shares; keeps speed and records.
        steps: the study, not started yet.
        asked: what the run was submitted as, under which it is recorded; not recorded when None.

    Raises:
        WorkbenchError: the run needs more memory than there is, or whatever the study raises.
    """
    bench = yield from look(kind, loaded, spec, context)
    estimate = try_to_estimate(bench, kind, spec)
    if bench is not None and estimate is not None:
        if not getattr(loaded, "streamed", False):  # what streams looks at its limit block by block
            check_fits(bench, kind, spec, estimate)
        yield Progress(0, 1, estimate.words)
    with Meter() as meter:
        result = yield from steps
    if estimate is not None and asked is not None:
        context.cells.put_cell(record_key(kind, asked), _record(estimate, meter).to_json())
    return result


def _record(estimate: Estimate, meter: Meter) -> Record:
    return Record(estimate.seconds, meter.before + estimate.peak, meter.took, meter.processor, meter.held)


class Meter:
    """Time, processor time and the most memory of this process while it is open.

    Memory is looked at every 50 ms, and where the kernel's own high-water mark rises meanwhile, that is taken: it
    misses nothing, but cannot be set back without taking it from others who read it.

    Attributes:
        before: bytes held when it was opened.
        held: bytes held at most.
        took: seconds on the clock.
        processor: seconds of processor time.
    """

    def __init__(self) -> None:
        self.before = self.held = 0
        self.took = self.processor = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="memory meter")

    def __enter__(self) -> Meter:
        self.before = self.held = psutil.Process().memory_info().rss
        self._mark, self._start, self._start_processor = high_water(), time.perf_counter(), time.process_time()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.took, self.processor = time.perf_counter() - self._start, time.process_time() - self._start_processor
        self._done.set()
        self._thread.join()
        mark = high_water()
        self.held = max(self.held, mark if mark > self._mark else 0, psutil.Process().memory_info().rss)

    def _look(self) -> None:
        process = psutil.Process(os.getpid())
        while not self._done.wait(INTERVAL):
            self.held = max(self.held, process.memory_info().rss)


def high_water() -> int:
    """The most bytes that this process ever held, as Linux counts; 0 elsewhere."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0
