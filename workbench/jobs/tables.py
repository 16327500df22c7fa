"""Tables of results as they were last read: a page asks for the same ones at every run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import pandas as pd

ROOM = 16_000_000
"""Bytes of memory that tables may take; those that were used longest ago make room."""


class Tables:
    """Reads parquet files, each once as long as it is the same file; any thread may ask.

    A result is replaced by renaming a folder, so that another file of that name is never mistaken for this one.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room, self._used = room, 0
        self._kept: OrderedDict[tuple[str, int, int, int], tuple[pd.DataFrame, int]] = OrderedDict()
        self._mutex = threading.Lock()

    def read(self, path: Path) -> pd.DataFrame:
        """The table of a file; the caller may change it.

        Raises:
            OSError: there is no such file.
            ValueError: it is no parquet file.
        """
        facts = path.stat()
        key = (str(path), facts.st_ino, facts.st_mtime_ns, facts.st_size)
        with self._mutex:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0].copy()
        table = pd.read_parquet(path)
        self._keep(key, table)
        return table.copy()

    def _keep(self, key: tuple[str, int, int, int], table: pd.DataFrame) -> None:
        size = int(table.memory_usage(deep=True).sum())
        with self._mutex:
            if key in self._kept or size > self._room:
                return
            self._kept[key] = (table, size)
            self._used += size
            while self._used > self._room:
                self._used -= self._kept.popitem(last=False)[1][1]
