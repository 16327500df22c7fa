"""Statistics, the sensitivity sweep and the solver, on the embedded model, nothing cached."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import workbench
from benchmarks.measurement import Measurement
from workbench import studies
from workbench.allocation.solve import read_items, solve_lagrangian
from workbench.model.statistics import collect
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows

LEVELS = {"mean", "mean_abs", "max_abs", "sum_sq", "sample_rows", "gram_blocks", "gram"}


def measure() -> Iterator[Measurement]:
    """One measurement after the other, each from a fresh start."""
    context = Context()
    model = context.model("demo")
    windows = calibration_windows(model, None, 8192, 256)
    seconds, _ = timed(lambda: workbench.run(collect(model, windows, needs=LEVELS)))
    yield Measurement("statistics L0-L2 on 8k tokens", seconds, "s", 15.0, f"{windows.tokens} tokens")
    reports: list[float] = []
    steps = studies.sensitivity(model, tokens=4096, context=context)
    seconds, result = timed(lambda: workbench.run(steps, lambda _: reports.append(time.perf_counter())))
    cells = result.document["cells"]
    yield Measurement("sensitivity sweep, 2/3/4/8 bits, 4k tokens", seconds, "s", 90.0, f"{len(cells)} cells")
    gaps = [later - earlier for earlier, later in pairwise(reports)]
    yield Measurement("longest silence of its progress bar", max(gaps), "s", 0.5, f"{len(reports)} reports")
    items = read_items(cells)
    seconds, _ = timed(lambda: [solve_lagrangian(items, 2.5 + step / 10) for step in range(50)])
    yield Measurement("solver behind the slider, one budget", seconds / 50, "s", 0.3, "mean of 50 budgets")


def timed(work):
    """Wall seconds and the result."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found
