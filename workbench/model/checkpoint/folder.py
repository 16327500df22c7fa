"""A folder that is either whole or not there: made under another name beside its place, renamed when all is in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from safetensors import SafetensorError

from workbench.errors import WorkbenchError, shown


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill inside a `with` block; it becomes `out` when the block ends and is removed when it raises.

    A process that is killed cannot tidy up: what it left has a name of its own, and the next run for the same `out`
    removes it.

    Raises:
        WorkbenchError: `out` is there already or cannot be made, or a file could not be written, on a full disk say.
    """
    check_free(out)
    try:
        _sweep(out)
        partial = Path(tempfile.mkdtemp(prefix=f"{_prefix(out)}{os.getpid()}-", dir=out.parent))
    except OSError as error:
        raise _cannot(out, error) from error
    try:
        partial.chmod(0o777 & ~_umask())  # mkdtemp's folders are for their maker alone
        yield partial
        check_free(out)
        partial.rename(out)
    except (OSError, SafetensorError) as error:
        raise _cannot(out, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(out: Path) -> None:
    """Refuse a place that is taken, also by an empty folder, or that has no folder around it.

    Raises:
        WorkbenchError: as said.
    """
    if os.path.lexists(out):
        raise WorkbenchError(f"{shown(str(out))} is there already; choose a new folder, or remove that one first")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise WorkbenchError(f"{shown(str(out))} cannot be made: its folder is not there or cannot be written to")


def check_room(out: Path, size: int) -> None:
    """Refuse before anything is computed where the disk is too full already.

    Args:
        out: the folder to be made.
        size: bytes that it will take.

    Raises:
        WorkbenchError: less is free.
    """
    free = shutil.disk_usage(out.parent).free
    if size > free:
        raise WorkbenchError(f"the checkpoint takes {size:,} bytes, and {free:,} are free where {shown(out.name)} goes")


def _prefix(out: Path) -> str:
    return f".{out.name}.partial-"


def _sweep(out: Path) -> None:
    """Remove what killed processes left for this place."""
    for left in out.parent.glob(f"{_prefix(out)}*"):
        maker = left.name.removeprefix(_prefix(out)).partition("-")[0]
        if maker.isdigit() and not psutil.pid_exists(int(maker)):
            shutil.rmtree(left, ignore_errors=True)


def _umask() -> int:
    held = os.umask(0)
    os.umask(held)
    return held


def _cannot(out: Path, error: Exception) -> WorkbenchError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
    return WorkbenchError(f"the checkpoint {shown(out.name)} could not be written: {reason}; nothing of it is left")
