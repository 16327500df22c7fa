"""The SQLite file of the store: opening it, its tables, and its troubles as one plain sentence each.

Connections live for one operation, so that any thread of any process may use the store. Write-ahead logging lets pages
read while the worker writes.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.errors import WorkbenchError
from workbench.jobs.trouble import BUSY, DAMAGE, STORAGE, Damaged, damage_named, error_name, unwritable

SCHEMA_VERSION = 1
PATIENCE = 10.0
"""Seconds that an operation waits for another process's write."""

SCHEMA = """
create table if not exists job (
    number integer primary key autoincrement,
    id text not null unique,
    kind text not null,
    spec text not null,
    key text not null,
    state text not null check (state in ('queued', 'running', 'done', 'failed', 'cancelled', 'interrupted')),
    priority integer not null,
    done real not null default 0,
    total real not null default 1,
    note text not null default '',
    created real not null,
    started real,
    ended real,
    heartbeat real,
    cancel_asked real,
    error text,
    defect integer not null default 0,
    worker text
);
create unique index if not exists one_active_job_a_key on job (key) where state in ('queued', 'running');
create index if not exists job_by_state on job (state, priority, number);
create index if not exists job_by_key on job (key, number);
create table if not exists cell (key text primary key, value text not null, created real not null);
create table if not exists description (name text primary key, value text not null, created real not null);
"""

NOTICE = "notice"
"""Name of the description that says that the store was begun anew, and why."""

log = logging.getLogger(__name__)


class Database:
    """Opens the file at `path`, makes its tables when there are none, sets a damaged file aside.

    Nothing is touched before the first operation, so that making one never fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """A connection for one operation, in autocommit.

        Raises:
            WorkbenchError: the folder cannot be written, the store is busy, or it was found damaged and set aside.
        """
        try:
            with closing(self._open()) as connection:
                yield connection
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error
        except OSError as error:
            raise unwritable(self.path.parent, error.strerror or error) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection that holds the write lock: the body is applied whole, or not at all when it raises."""
        with self.connect() as connection:
            connection.execute("begin immediate")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """Run one statement and return its rows."""
        with self.connect() as connection:
            return connection.execute(statement, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        connection = self._bare()
        try:
            if _version(connection) == SCHEMA_VERSION:
                return connection
        except sqlite3.DatabaseError as error:
            # Damaged, or moved aside by another process just now; what else it may be comes up again under the lock.
            log.info("the job store cannot be read as it is: %s", error)
        connection.close()
        self._prepare()
        return self._bare()

    def _bare(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self, *, thorough: bool = False) -> None:
        """Make the tables, after setting aside a file that is damaged or of another version.

        One process at a time, and the file is looked at again under the lock: two could both find it damaged, and the
        second would move away the good one that the first has just made.
        """
        try:
            with FileLock(self.path.with_name(self.path.name + ".lock"), timeout=PATIENCE):
                try:
                    self._make_tables(thorough)
                except Damaged as damage:
                    sentence = self._set_aside(damage)
                    self._make_tables(thorough=False)
                    self._say(sentence)
        except Timeout as error:
            raise self._busy() from error

    def _make_tables(self, thorough: bool) -> None:
        with closing(self._bare()) as connection, damage_named():
            found = _version(connection)
            if found not in (0, SCHEMA_VERSION):
                raise Damaged(f"it was written by another version of the program, {found}")
            if thorough and connection.execute("pragma quick_check(1)").fetchone()[0] != "ok":
                raise Damaged("its pages contradict each other")
            connection.execute("pragma journal_mode = wal")
            connection.executescript(f"begin immediate; {SCHEMA} pragma user_version = {SCHEMA_VERSION}; commit;")

    def _set_aside(self, damage: Damaged) -> str:
        """Rename the file and its companions; returns the sentence that says so."""
        kept = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        for ending in ("", "-wal", "-shm"):
            held = self.path.with_name(self.path.name + ending)
            if held.exists():
                os.replace(held, kept.with_name(kept.name + ending))
        return (
            f"the list of jobs could not be read ({damage}); it was moved to {kept.name!r} in the cache folder "
            "and a new list begun, results are kept"
        )

    def _say(self, sentence: str) -> None:
        log.warning("%s", sentence)
        with closing(self._bare()) as connection:
            connection.execute(
                "insert or replace into description values (?, ?, ?)", (NOTICE, json.dumps(sentence), time.time())
            )

    def _busy(self) -> WorkbenchError:
        return WorkbenchError(
            f"the job store {str(self.path)!r} has been held by another process for {PATIENCE:g} seconds; try again"
        )

    def _explain(self, error: sqlite3.DatabaseError) -> Exception:
        """The error as a person should read it; faults of our own SQL stay as they are."""
        name = error_name(error)
        if name.startswith(DAMAGE):
            self._prepare(thorough=True)
            return WorkbenchError(
                f"the list of jobs in {str(self.path.parent)!r} was damaged and was begun anew: ask again"
            )
        if name.startswith(BUSY):
            return self._busy()
        if name.startswith(STORAGE):
            return unwritable(self.path.parent, error)
        return error


def _version(connection: sqlite3.Connection) -> int:
    """The version of the tables, 0 for a file without any."""
    # Safe with write-ahead logging: a power cut may lose the last writes, never the file.
    connection.execute("pragma synchronous = normal")
    return connection.execute("pragma user_version").fetchone()[0]
