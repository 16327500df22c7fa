"""The job store: who waits, who runs, how it ended.

Every change of state is one SQL statement that names the old state, so that two processes cannot both take a job and a
late report cannot bring a finished one back. States: queued -> running -> done, failed, cancelled or interrupted.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from workbench.errors import WorkbenchError, shown
from workbench.jobs.job import LONG, Counts, Job
from workbench.jobs.records import Records

QUEUE_LIMIT = 20
HISTORY_LIMIT = 500
"""Finished jobs that are remembered; results live on without them."""

NOTE_LIMIT = 200
WORKER_GONE = (
    "the worker process ended while this ran: it was stopped, the computer ran out of memory, or the cache folder is "
    "full; run it again, finished cells of a sweep are kept"
)
Outcome = Literal["done", "failed", "cancelled"]


def canonical(document: Any) -> str:
    """JSON text that is equal for equal documents.

    Raises:
        WorkbenchError: a number that JSON cannot hold.
    """
    try:
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise WorkbenchError(f"the settings of a study hold a number that JSON cannot write ({error})") from error


class Store(Records):
    """The jobs of one file, for any number of threads and processes; see `Database` for what it raises."""

    def submit(self, kind: str, spec: Mapping[str, Any], key: str, *, priority: int = LONG) -> str:
        """Queue a job and return its id, or the id of the one with this key that already waits or runs.

        Raises:
            WorkbenchError: `QUEUE_LIMIT` jobs wait already.
        """
        text = canonical(spec)
        with self.transaction() as connection:
            held = connection.execute(
                "select id from job where key = ? and state in ('queued', 'running')", (key,)
            ).fetchone()
            if held is not None:
                return held["id"]
            return _insert(connection, (uuid.uuid4().hex[:12], kind, text, key, priority, time.time()))

    def get(self, identifier: str) -> Job:
        """The job of that id.

        Raises:
            WorkbenchError: there is none.
        """
        found = self.rows("select * from job where id = ?", identifier)
        if not found:
            raise WorkbenchError(f"there is no job {shown(identifier)}; `workbench jobs list` shows those there are")
        return Job.from_row(found[0])

    def latest(self, key: str) -> Job | None:
        """The job that was last queued with that key."""
        found = self.rows("select * from job where key = ? order by number desc limit 1", key)
        return Job.from_row(found[0]) if found else None

    def recent(self, count: int = 50) -> list[Job]:
        """The jobs that were last queued, newest first."""
        return [Job.from_row(row) for row in self.rows("select * from job order by number desc limit ?", count)]

    def running(self) -> Job | None:
        """The job that runs."""
        found = self.rows("select * from job where state = 'running' order by number limit 1")
        return Job.from_row(found[0]) if found else None

    def counts(self) -> Counts:
        """How many jobs run and wait."""
        found = dict(
            tuple(row)
            for row in self.rows("select state, count(*) from job where state in ('queued', 'running') group by state")
        )
        return Counts(found.get("running", 0), found.get("queued", 0))

    def ahead(self, identifier: str) -> int:
        """How many queued jobs go before this queued one; 0 for one that does not wait."""
        return self.rows(
            "select count(*) from job as other, job as mine where mine.id = ? and mine.state = 'queued' and "
            "other.state = 'queued' and (other.priority, other.number) < (mine.priority, mine.number)",
            identifier,
        )[0][0]

    def claim(self, worker: str) -> Job | None:
        """Take the next queued job for that worker: lower priority numbers first, then in order of arrival."""
        if not self.rows("select 1 from job where state = 'queued' limit 1"):
            return None  # the usual answer, found without taking the write lock
        now = time.time()
        taken = self.rows(
            "update job set state = 'running', started = ?, heartbeat = ?, worker = ? where state = 'queued' and "
            "number = (select number from job where state = 'queued' order by priority, number limit 1) returning *",
            now, now, worker,
        )  # fmt: skip
        return Job.from_row(taken[0]) if taken else None

    def progress(self, identifier: str, done: float, total: float, note: str) -> bool:
        """Write how far a running job is; False when it should stop: cancelled, or no longer running."""
        found = self.rows(
            "update job set done = ?, total = ?, note = ?, heartbeat = ? where id = ? and state = 'running' "
            "returning cancel_asked",
            done, total, note[:NOTE_LIMIT], time.time(), identifier,
        )  # fmt: skip
        return bool(found) and found[0]["cancel_asked"] is None

    def finish(self, identifier: str, state: Outcome, error: str | None = None, *, defect: bool = False) -> bool:
        """End a running job; False when it was not running any more."""
        return bool(
            self.rows(
                "update job set state = ?, error = ?, defect = ?, ended = ?, "
                "done = case when ? = 'done' then total else done end where id = ? and state = 'running' returning id",
                state, error, int(defect), time.time(), state, identifier,
            )
        )  # fmt: skip

    def request_cancel(self, identifier: str) -> Job:
        """Cancel a queued job at once, ask a running one to stop, leave a finished one as it is.

        Raises:
            WorkbenchError: there is no such job.
        """
        now = time.time()
        self.rows("update job set state = 'cancelled', ended = ? where id = ? and state = 'queued'", now, identifier)
        self.rows(
            "update job set cancel_asked = ? where id = ? and state = 'running' and cancel_asked is null",
            now, identifier,
        )  # fmt: skip
        return self.get(identifier)

    def cancel_ignored(self, identifier: str, seconds: float) -> bool:
        """Whether a running job was asked to stop longer than `seconds` ago."""
        return bool(
            self.rows(
                "select 1 from job where id = ? and state = 'running' and cancel_asked < ?",
                identifier, time.time() - seconds,
            )
        )  # fmt: skip

    def recover(self) -> list[str]:
        """Mark running jobs as interrupted, or cancelled where that was asked for; returns their ids.

        Only for a caller that holds the worker lock, which proves that no worker runs them.
        """
        found = self.rows(
            "update job set state = case when cancel_asked is null then 'interrupted' else 'cancelled' end, "
            "error = case when cancel_asked is null then ? end, ended = ? where state = 'running' returning id",
            WORKER_GONE, time.time(),
        )  # fmt: skip
        return [row["id"] for row in found]

    def fail_queued(self, sentence: str) -> None:
        """End all waiting jobs, when there can be no worker for them."""
        self.rows("update job set state = 'failed', error = ?, ended = ? where state = 'queued'", sentence, time.time())


def _insert(connection: sqlite3.Connection, values: tuple[str, str, str, str, int, float]) -> str:
    """Queue a job inside the caller's transaction, and forget the oldest finished ones; returns its id."""
    queued = connection.execute("select count(*) from job where state = 'queued'").fetchone()[0]
    if queued >= QUEUE_LIMIT:
        raise WorkbenchError(f"{queued} jobs wait already, which is the most; cancel one or wait for one to end")
    connection.execute(
        "insert into job (state, id, kind, spec, key, priority, created) values ('queued', ?, ?, ?, ?, ?, ?)", values
    )
    connection.execute(
        "delete from job where state not in ('queued', 'running') and number <= last_insert_rowid() - ?",
        (HISTORY_LIMIT,),
    )
    return values[0]
