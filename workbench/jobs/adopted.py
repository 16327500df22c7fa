"""Finished work that came another way than through the queue: from the command line, or from a bundle."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from workbench.jobs.job import LONG
from workbench.jobs.store import HISTORY_LIMIT, NOTE_LIMIT, Store, canonical
from workbench.results import dumps

CARRIED = "carried"
"""Name of the description that lists models which are known from bundles alone: {model: {text as shown: TEXT}}."""


@dataclass(frozen=True)
class Finished:
    """A study that has ended well.

    Attributes:
        kind: of the study.
        spec: what it was asked.
        key: under which its result lies on the shelf.
        seconds: how long it took, None when unknown.
        ended: when, seconds since the epoch; now when None.
        note: a few words on where it comes from.
        worker: what computed it.
    """

    kind: str
    spec: Mapping[str, Any]
    key: str
    seconds: float | None = None
    ended: float | None = None
    note: str = ""
    worker: str = ""


@contextmanager
def adopting(
    store: Store,
    jobs: Sequence[Finished],
    *,
    cells: Mapping[str, Any] | None = None,
    carried: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[None]:
    """Add finished jobs, cells that are not there yet, and models that are known from bundles.

    All of it, or none when the body raises: what the jobs point to is put in its place there.

    Args:
        store: the store.
        jobs: finished studies, oldest first.
        cells: key -> value; a cell that is there keeps its value.
        carried: model -> text as shown -> TEXT name; added to those that are known.
    """
    with store.transaction() as connection:
        now = time.time()
        rows = [(key, dumps(value), now) for key, value in (cells or {}).items()]
        connection.executemany("insert or ignore into cell values (?, ?, ?)", rows)
        for job in jobs:
            _insert(connection, job, now)
        if carried:
            _add_carried(connection, carried, now)
        yield


def record(store: Store, job: Finished) -> None:
    """Add one finished job."""
    with adopting(store, [job]):
        pass


def carried_models(store: Store) -> dict[str, dict[str, str]]:
    """The models that are known from bundles alone, each with its texts, as shown -> TEXT name."""
    return store.read(CARRIED) or {}


def _insert(connection: sqlite3.Connection, job: Finished, now: float) -> None:
    ended = now if job.ended is None else job.ended
    started = None if job.seconds is None else ended - job.seconds
    connection.execute(
        "insert into job (state, done, total, id, kind, spec, key, priority, created, started, ended, note, worker) "
        "values ('done', 1, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (uuid.uuid4().hex[:12], job.kind, canonical(job.spec), job.key, LONG, started or ended, started, ended,
         job.note[:NOTE_LIMIT], job.worker),
    )  # fmt: skip
    connection.execute(
        "delete from job where state not in ('queued', 'running') and number <= last_insert_rowid() - ?",
        (HISTORY_LIMIT,),
    )


def _add_carried(connection: sqlite3.Connection, carried: Mapping[str, Mapping[str, str]], now: float) -> None:
    found = connection.execute("select value from description where name = ?", (CARRIED,)).fetchone()
    known = json.loads(found["value"]) if found else {}
    for model, texts in carried.items():
        known[model] = {**known.get(model, {}), **texts}
    connection.execute("insert or replace into description values (?, ?, ?)", (CARRIED, dumps(known), now))
