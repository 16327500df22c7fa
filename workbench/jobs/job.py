"""A job as its row in the store says it: what was asked, how far it is, how it ended."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
ACTIVE: tuple[State, ...] = ("queued", "running")

INTERACTIVE = 0
"""Priority of work that a person waits for: it goes before all long work that is still queued."""
LONG = 1
"""Priority of sweeps and evaluations."""

SHARE_BEFORE_ESTIMATE = 0.02
"""Below this share of the work the speed so far says nothing about the rest."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the store. Times are seconds since the epoch, None for what has not happened.

    Attributes:
        key: hash of the question; also the name of the folder of its result.
        priority: `INTERACTIVE` or `LONG`.
        heartbeat: when the study last reported progress.
        cancel_asked: when somebody asked for the job to be cancelled.
        error: one plain sentence when it failed or was interrupted.
        defect: the failure is a fault of the program; its traceback is in the worker's log.
        worker: name of the worker that took it.
    """

    id: str
    kind: str
    spec: dict[str, Any]
    key: str
    state: State
    priority: int
    done: float
    total: float
    note: str
    created: float
    started: float | None
    ended: float | None
    heartbeat: float | None
    cancel_asked: float | None
    error: str | None
    defect: bool
    worker: str | None

    @staticmethod
    def from_row(row: sqlite3.Row) -> Job:
        """Read a row of table `job`."""
        held = {name: row[name] for name in Job.__slots__}
        held["spec"] = json.loads(held["spec"])
        held["defect"] = bool(held["defect"])
        # SQLite gives whole numbers back as integers from `returning`, whatever the column's type
        held["done"], held["total"] = float(held["done"]), float(held["total"])
        return Job(**held)

    @property
    def active(self) -> bool:
        """Whether it waits or runs, so that its state can still change."""
        return self.state in ACTIVE

    @property
    def share(self) -> float:
        """Share of the work that is done, 0 to 1."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 0.0

    def seconds_left(self, now: float) -> float | None:
        """Estimate of the seconds left at the speed so far, or None while too little is done to tell."""
        if self.state != "running" or self.started is None or self.share < SHARE_BEFORE_ESTIMATE:
            return None
        return max(0.0, now - self.started) * (1.0 - self.share) / self.share


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs run and how many wait."""

    running: int
    queued: int
