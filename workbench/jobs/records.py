"""What the store keeps beside jobs: cells of sweeps, and documents that the worker publishes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from workbench.jobs.database import Database
from workbench.results import dumps

VARIABLES_AT_ONCE = 500
"""Values bound in one statement, under the limit of every SQLite in use."""

WORKERS = "workers of job "
"""Begins the name of the document that says what the workers of a running job do."""


class Records(Database):
    """Cells by content hash, and JSON documents by name; see `Database` for what it raises."""

    _noted: set[str] | None = None

    @contextmanager
    def noting(self) -> Iterator[set[str]]:
        """The keys of all cells that the body reads or writes by this object: what a study stands on."""
        before, self._noted = self._noted, set()
        try:
            yield self._noted
        finally:
            self._noted = before

    def _note(self, keys: Iterable[str]) -> None:
        if self._noted is not None:
            self._noted.update(keys)

    def put_cell(self, key: str, value: Any) -> None:
        """Keep the value of one cell of a sweep; JSON, numbers that JSON cannot hold become null."""
        self.rows("insert or replace into cell values (?, ?, ?)", key, dumps(value), time.time())
        self._note([key])

    def get_cells(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those keys that are kept."""
        asked, found = list(keys), {}
        with self.connect() as connection:
            for start in range(0, len(asked), VARIABLES_AT_ONCE):
                part = asked[start : start + VARIABLES_AT_ONCE]
                marks = ", ".join("?" * len(part))
                rows = connection.execute(f"select key, value from cell where key in ({marks})", part)
                found.update({row["key"]: json.loads(row["value"]) for row in rows})
        self._note(found)
        return found

    def publish(self, name: str, document: Any) -> None:
        """Put a JSON document under a name for other processes to read, in place of the former one."""
        self.rows("insert or replace into description values (?, ?, ?)", name, dumps(document), time.time())

    def read(self, name: str) -> Any:
        """The document that was last published under a name, or None."""
        found = self.rows("select value from description where name = ?", name)
        return json.loads(found[0]["value"]) if found else None

    def withdraw(self, name: str) -> None:
        """Take a published document away."""
        self.rows("delete from description where name = ?", name)

    def publish_workers(self, job: str, rows: list[dict[str, Any]]) -> None:
        """Say what every worker of a running job does; one row each, in place of the former ones."""
        self.publish(WORKERS + job, rows)

    def workers(self, job: str) -> list[dict[str, Any]]:
        """What the workers of a running job do; none for a job that is run by one process."""
        return self.read(WORKERS + job) or []

    def forget_workers(self) -> None:
        """No job runs: what was said of workers is over."""
        self.rows("delete from description where substr(name, 1, ?) = ?", len(WORKERS), WORKERS)
