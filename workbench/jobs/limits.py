"""What the worker may take of the computer: threads, priority, memory. No torch here."""

from __future__ import annotations

import logging
import os
import re

import psutil

from workbench.errors import WorkbenchError, shown

NICENESS = 10
log = logging.getLogger(__name__)


def thread_count() -> int:
    """Threads for torch: `WORKBENCH_THREADS`, or all cores but one, so that pages stay quick.

    Raises:
        WorkbenchError: the variable is no whole number of at least 1.
    """
    given = os.environ.get("WORKBENCH_THREADS", "").strip()
    if not given:
        return max(1, _cores() - 1)
    if not re.fullmatch(r"[1-9]\d{0,3}", given):
        raise WorkbenchError(f"WORKBENCH_THREADS has value {shown(given)}; write a whole number of at least 1")
    return int(given)


def _cores() -> int:
    """Cores that this process may use: containers and `taskset` allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lower_priority() -> None:
    """Let the browser's server go first; systems without niceness are left as they are."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def limit_memory() -> None:
    """Let allocations beyond the memory that is free now fail, instead of the whole process being killed.

    Counted is private writable memory (`RLIMIT_DATA`), not the address space: threads reserve far more addresses than
    they use, and CUDA maps the whole card (call this where there is none). Linux counts large allocations so since 4.7;
    other systems set no limit here.
    """
    try:
        import resource
    except ImportError:
        return
    held = psutil.Process().memory_info()
    limit = int(getattr(held, "data", held.vms)) + psutil.virtual_memory().available
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
    except (ValueError, OSError) as error:
        log.warning("no memory limit could be set: %s", error)
