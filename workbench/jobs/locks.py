"""One lock file says whether a cache folder has a live worker.

The operating system drops the lock when its holder ends, however it ends, so there is no stale pid to be fooled by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def worker_lock(folder: Path) -> FileLock:
    """The lock that the worker of this cache folder holds as long as it lives."""
    return FileLock(folder / "worker.lock")


@contextmanager
def held(lock: FileLock, wait: float = 0.0) -> Iterator[bool]:
    """Hold the lock for the body if it becomes free within `wait` seconds; the value says whether it did."""
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
