"""What can go wrong with files in the cache folder, as a person should read it."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import WorkbenchError

DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
STORAGE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_PERM")


class Damaged(Exception):
    """The file is no database, is damaged, or was written by another version of the program."""


def unwritable(folder: Path, reason: object) -> WorkbenchError:
    """The sentence for a cache folder that is read-only, full or cannot be made."""
    return WorkbenchError(
        f"the cache folder {str(folder)!r} cannot be written ({reason}); "
        "free space there, or set WORKBENCH_CACHE to a folder that can be written"
    )


def is_storage_trouble(error: OSError) -> bool:
    """Whether an error of the operating system says that a folder is full or cannot be written."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


def error_name(error: sqlite3.Error) -> str:
    """SQLite's own name of an error, such as SQLITE_FULL; empty for errors of the Python module itself."""
    return getattr(error, "sqlite_errorname", None) or ""


@contextmanager
def damage_named() -> Iterator[None]:
    """SQLite's errors for a file that it cannot make sense of, as `Damaged`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error_name(error).startswith(DAMAGE):
            raise Damaged(str(error)) from error
        raise
