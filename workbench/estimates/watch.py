"""A study that is estimated before it runs, refused where it cannot fit, and measured while it runs."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from workbench.estimates.estimate import Estimate
from workbench.estimates.opening import open_to_fit
from workbench.estimates.record import Record, record_key
from workbench.progress import Progress, Steps
from workbench.results import Result
from workbench.studies.context import Context

INTERVAL = 0.05
"""Seconds between two looks at the memory of the process."""


def watched(kind: str, spec: Mapping[str, Any], context: Context, **beside: Any) -> Steps[Result]:
    """Run a study with its estimate before it and the truth beside it.

    Args:
        kind: of study.
        spec: what it is asked, under which estimate and truth are recorded.
        context: what the process shares; keeps speed and records.
        beside: keywords of the study that are no JSON.

    Raises:
        WorkbenchError: the run needs more memory than there is, or whatever the study raises.
    """
    opened = yield from open_to_fit(kind, spec, context, **beside)
    study, estimate = opened.study, opened.estimate
    del opened
    if estimate is not None:
        yield Progress(0, 1, estimate.words)
    with Meter() as meter:
        result = yield from study
    if estimate is not None:
        context.cells.put_cell(record_key(kind, spec), _record(estimate, meter).to_json())
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
