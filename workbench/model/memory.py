"""Memory is estimated before it is taken, and refused with numbers when it is not there. No torch here."""

from __future__ import annotations

import ctypes

import psutil

from workbench.errors import WorkbenchError

M_MMAP_THRESHOLD = -3
"""Of `mallopt` in glibc's malloc.h: allocations from this size on are pages of their own, handed back when freed."""
PAGES_OF_THEIR_OWN = 2**20

_bound: int | None = None


def bound_memory(limit: int | None) -> None:
    """Let all work of this process plan with so many bytes at most, beside the model that it holds; None lifts that.

    A limit belongs to a process: the one that computes has one model and works on one study at a time.
    """
    global _bound
    if limit is not None and _bound is None:
        _hand_back_large_allocations()
    _bound = limit


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


def _hand_back_large_allocations() -> None:
    """Keep the heap from growing beyond a limit by fragments: glibc raises that size by itself, up to 32 MiB."""
    try:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, PAGES_OF_THEIR_OWN)
    except (AttributeError, OSError, TypeError):
        return  # another C library, which has no such call


def return_freed_memory() -> None:
    """Hand freed pages back to the system; the C library of Linux keeps them, a quarter of a sweep's, otherwise."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return  # another C library, which has no such call
