"""How soon the command line answers."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measurement import Measurement

REPEATS = 5


def measure() -> Iterator[Measurement]:
    """CPU time of `workbench --help`, median of five."""
    seconds = sorted(cpu_seconds([str(Path(sys.executable).with_name("workbench")), "--help"]) for _ in range(REPEATS))
    yield Measurement("workbench --help, CPU time", seconds[REPEATS // 2], "s", 0.5, f"median of {REPEATS}")


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
