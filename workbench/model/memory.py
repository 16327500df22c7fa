"""Memory is estimated before it is taken, and refused with numbers when it is not there. No torch here."""

from __future__ import annotations

import ctypes

import psutil

from workbench.errors import WorkbenchError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of `mallopt` in glibc's malloc.h: so much may lie free at the end of the heap before it is handed back; allocations
from this size on are pages of their own, handed back when freed."""
PAGES_OF_THEIR_OWN = 2**18

_bound: int | None = None


def bound_memory(limit: int | None) -> None:
    """Let all work of this process plan with so many bytes at most, beside the model that it holds; None lifts that.

    A limit belongs to a process: the one that computes has one model and works on one study at a time.
    """
    global _bound
    if limit is not None and _bound is None:
        keep_heap_small()
    _bound = limit


def bound_of() -> int | None:
    """The bytes that work may plan with at most; None without a limit."""
    return _bound


def available_memory() -> int:
    """Bytes that work may take now: those that are free, or less under a limit."""
    free = psutil.virtual_memory().available
    return free if _bound is None else max(0, min(free, _bound))


def require_memory(needed: int, purpose: str, limit: int | None = None) -> None:
    """Refuse work that would not fit in the memory that is free now, or in less of it.

    Args:
        needed: bytes that the work will hold at once.
        purpose: what needs them, as the subject of the sentence.
        limit: bytes that the work may take at most; None for all that are free.

    Raises:
        WorkbenchError: less is available or allowed.
    """
    available = available_memory()
    if limit is not None and needed > limit:
        raise WorkbenchError(
            f"{purpose} needs {needed / 2**30:.4g} GiB of memory; the limit is {limit / 2**30:.4g} GiB"
        )
    if needed > available:
        raise WorkbenchError(
            f"{purpose} needs {needed / 2**30:.2f} GiB of memory; {available / 2**30:.2f} GiB are free"
        )


def keep_heap_small() -> None:
    """Keep the heap from growing beyond a limit by fragments: glibc raises both sizes by itself, to 32 and 64 MiB."""
    try:
        for size in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(size, PAGES_OF_THEIR_OWN)
        return_freed_memory()
    except (AttributeError, OSError, TypeError):
        return  # another C library, which has no such call


def return_freed_memory() -> None:
    """Hand freed pages back to the system; the C library of Linux keeps them, a quarter of a sweep's, otherwise."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return  # another C library, which has no such call
