"""A client that needs no worker: its answers are real studies of the tiny model, its jobs are what a test says."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import progress, registry, studies
from workbench.errors import WorkbenchError
from workbench.estimates.record import Record
from workbench.jobs.job import LONG, Counts, Job
from workbench.results import Result


class Answers:
    """Results of studies by what was asked, computed once a test session; sizes are cut so that each takes a moment."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.context = studies.Context()
        self._known: dict[str, Result] = {}

    def __call__(self, kind: str, spec: dict[str, Any]) -> Result:
        key = json.dumps([kind, spec], sort_keys=True)
        if key not in self._known:
            asked = {**spec, "model": str(self.models / spec["model"])}
            if "tokens" in asked:
                asked |= {"tokens": 256, "window": 64}
            self._known[key] = progress.run(studies.start(kind, asked, self.context))
        return self._known[key]


class FakeClient:
    """What pages use of `workbench.jobs.client.Client`.

    Attributes:
        submitted: what was asked for, in order.
        refusal: sentence with which `submit` refuses, None when it does not.
        ready: whether the worker has published its methods.
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.submitted: list[tuple[str, dict[str, Any]]] = []
        self.refusal: str | None = None
        self.ready = True
        self.told: str | None = None
        self.away: dict[str, dict[str, str]] = {}
        self.recorded: dict[str, Record] = {}
        self._held: dict[str, Job | None] = {}
        self._jobs: list[Job] = []
        self._given: list[tuple[str, dict[str, Any]]] = []

    def hold(self, kind: str, state: str | None = None, **facts: Any) -> None:
        """Keep new studies of a kind in a state, such as failed with an error; None is never asked for."""
        self._held[kind] = None if state is None else make_job(kind, {}, state, **facts)

    def release(self, kind: str) -> None:
        """Let a kind be answered again."""
        del self._held[kind]

    def list_jobs(self, *jobs: Job) -> None:
        """Put jobs into the list."""
        self._jobs = list(jobs)

    def result(self, kind: str, spec: dict[str, Any]) -> Result | None:
        """Results that cannot be computed are missing, as in life."""
        if kind in self._held and (kind, spec) not in self._given:
            return None
        try:
            answer = self.answers(kind, spec)
        except WorkbenchError:
            return None
        self._given.append((kind, spec))
        return answer

    def latest(self, kind: str, spec: dict[str, Any]) -> Job | None:
        held = self._held.get(kind)
        return None if held is None else replace(held, spec=spec)

    def submit(self, kind: str, spec: dict[str, Any], priority: int = LONG) -> Job:
        if self.refusal:
            raise WorkbenchError(self.refusal)
        self.submitted.append((kind, spec))
        self._held[kind] = make_job(kind, spec, "queued")
        return self._held[kind]

    def job(self, identifier: str) -> Job:
        everything = [*self._jobs, *(job for job in self._held.values() if job is not None)]
        return next(job for job in everything if job.id == identifier)

    def cancel(self, identifier: str) -> Job:
        job = replace(self.job(identifier), state="cancelled")
        self._held = {
            kind: job if one is not None and one.id == identifier else one for kind, one in self._held.items()
        }
        self._jobs = [job if one.id == identifier else one for one in self._jobs]
        return job

    def recent(self, count: int = 50) -> list[Job]:
        return self._jobs[:count]

    def records(self, jobs: Sequence[Job]) -> dict[str, Record]:
        return {job.id: self.recorded[job.id] for job in jobs if job.id in self.recorded}

    def busy(self) -> Counts:
        states = [job.state for job in self._jobs]
        return Counts(states.count("running"), states.count("queued"))

    def ahead(self, identifier: str) -> int:
        return 0

    def workers(self, identifier: str) -> list[dict[str, Any]]:
        return []

    def carried(self) -> dict[str, dict[str, str]]:
        return self.away

    def methods(self) -> dict[str, list[dict[str, Any]]]:
        return registry.describe_all() if self.ready else {}

    def trouble(self) -> str | None:
        return None

    def notice(self) -> str | None:
        return self.told

    def dismiss_notice(self) -> None:
        self.told = None


def make_job(kind: str, spec: dict[str, Any], state: str, **facts: Any) -> Job:
    """A job in some state; `facts` overrides single fields."""
    now = time.time()
    ended = None if state in ("queued", "running") else now - 5
    fields: dict[str, Any] = {
        "id": f"{kind}-{state}",
        "kind": kind,
        "spec": spec,
        "key": f"key-of-{kind}",
        "state": state,
        "priority": LONG,
        "done": 0.0,
        "total": 1.0,
        "note": "",
        "created": now - 60,
        "started": None if state == "queued" else now - 50,
        "ended": ended,
        "heartbeat": None,
        "cancel_asked": None,
        "error": None,
        "defect": False,
        "worker": None,
    }
    return Job(**fields | facts)
