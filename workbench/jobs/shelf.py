"""Results on disk: a folder a key, the least recently used removed when there are too many."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench import results, settings
from workbench.jobs.tables import Tables
from workbench.jobs.trouble import is_storage_trouble, unwritable
from workbench.results import Result
from workbench.sizes import parse_size
from workbench.trimming import trim

METHODS = "methods.json"
CELLS = "cells.json"
"""Beside a result: keys of the cells that it was made of."""

DEFAULT_LIMIT = 2_000_000_000


def cache_limit() -> int:
    """Bytes that results may take: `WORKBENCH_CACHE_LIMIT`, such as 500MB or 2 GB, or 2 GB.

    Raises:
        WorkbenchError: the variable holds something else.
    """
    given = os.environ.get("WORKBENCH_CACHE_LIMIT", "").strip()
    if not given:
        return DEFAULT_LIMIT
    return parse_size(given, "WORKBENCH_CACHE_LIMIT")


class Shelf:
    """The results of a cache folder, with those that come with the program behind them.

    Args:
        cache: the cache folder; results lie in its sub-folder `results`.
        shipped: a read-only folder of results; by default that of the embedded model.
    """

    def __init__(self, cache: Path, shipped: Path | None = None) -> None:
        self.folder = cache / "results"
        self.shipped = shipped if shipped is not None else settings.demo_folder() / "results"
        self._tables = Tables()

    def load(self, key: str) -> Result | None:
        """The result of that key, or None."""
        found = results.load(self.folder / key, self._tables.read)
        if found is None:
            return results.load(self.shipped / key, self._tables.read)
        with suppress(OSError):  # a cache that can only be read is still good for reading
            os.utime(self.folder / key)
        return found

    def shipped_methods(self) -> dict[str, list[dict[str, Any]]]:
        """Descriptions of the methods that come with the program, so that a first page need not wait for a worker."""
        with suppress(OSError, ValueError):
            return json.loads((self.shipped / METHODS).read_text(encoding="utf-8"))
        return {}

    def folder_of(self, key: str) -> Path | None:
        """Where the result of that key lies, here or among the shipped ones; None when there is none."""
        found = (self.folder / key, self.shipped / key)
        return next((one for one in found if (one / results.DOCUMENT).is_file()), None)

    def cells_of(self, key: str) -> list[str]:
        """Keys of the cells that the study read or wrote; none where that was not written down."""
        with suppress(OSError, ValueError):
            return json.loads((self.folder / key / CELLS).read_text(encoding="utf-8"))
        return []

    def save(self, key: str, result: Result, cells: Collection[str] = ()) -> None:
        """Keep a result, and make room by removing those that were used longest ago.

        Args:
            key: of the study.
            result: what it returned.
            cells: keys of the cells that it read or wrote, to be carried with it.

        Raises:
            WorkbenchError: the cache folder is full or cannot be written, or its limit is no size.
        """
        limit = cache_limit()
        try:
            results.save(result, self.folder / key)
            if cells:
                (self.folder / key / CELLS).write_text(json.dumps(sorted(cells)), encoding="utf-8")
        except OSError as error:
            if is_storage_trouble(error):
                raise unwritable(self.folder.parent, error.strerror) from error
            raise
        trim(self.folder, limit, key)
