"""Folders of one kind that share a size: the least recently used are removed when there are too many. No torch here."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

PARTIAL_AGE = 3600.0
"""Seconds after which a partly written folder, named with a leading dot, cannot be one that is being written."""


def trim(folder: Path, limit: int, newest: str) -> None:
    """Remove the least recently used sub-folders until the rest fit; the newest stays whatever its size.

    Args:
        folder: holds the sub-folders.
        limit: bytes.
        newest: name of the sub-folder that is kept.
    """
    folders = sorted((one for one in folder.iterdir() if one.is_dir()), key=used)
    room = limit - size(folder / newest)
    for one in reversed(folders):
        if one.name == newest:
            continue
        if one.name.startswith("."):
            if time.time() - used(one) > PARTIAL_AGE:
                shutil.rmtree(one, ignore_errors=True)
            continue
        room -= size(one)
        if room < 0:
            shutil.rmtree(one, ignore_errors=True)


def used(folder: Path) -> float:
    """When a folder was last written or read; 0 when it has gone meanwhile."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def size(folder: Path) -> int:
    """Bytes of the files in a folder, without those that have gone meanwhile."""
    total = 0
    for file in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            total += file.stat().st_size
    return total
