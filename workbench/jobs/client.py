"""What pages and the command line know of long work: ask, look, cancel. No torch here.

A page asks with a kind and a spec, shows `result` when there is one and the job when there is none. Nothing here waits
for the work itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench import settings
from workbench.bundle.create import create
from workbench.bundle.opening import open_bundle
from workbench.bundle.taking import Opened
from workbench.cluster.wish import from_environment
from workbench.errors import WorkbenchError
from workbench.estimates.record import Record, record_key
from workbench.jobs.adopted import carried_models
from workbench.jobs.database import NOTICE
from workbench.jobs.job import LONG, Counts, Job
from workbench.jobs.keys import study_key
from workbench.jobs.limits import thread_count
from workbench.jobs.shelf import Shelf, cache_limit
from workbench.jobs.store import Store
from workbench.jobs.supervisor import Supervisor
from workbench.results import Result


class Client:
    """The jobs and results of one cache folder; one object serves all threads of an app.

    Every method that looks at jobs raises `WorkbenchError` when the cache folder cannot be written; `result` does not.

    Args:
        cache: the cache folder; by default that of the settings.
        program: module with the studies that the worker runs, for tests.
    """

    def __init__(self, cache: Path | None = None, *, program: str | None = None) -> None:
        self.cache = cache if cache is not None else settings.cache_folder()
        self.store = Store(self.cache / "workbench.sqlite")
        self.shelf = Shelf(self.cache)
        self._supervisor = Supervisor(self.store, program)

    def submit(self, kind: str, spec: Mapping[str, Any], priority: int = LONG) -> Job:
        """Queue a study and see to it that there is a worker; the job that asks for the same already, if one is active.

        A finished result does not keep it from running again: look at `result` first.

        Raises:
            WorkbenchError: too many jobs wait, the model or a text file is not there, or a setting of the environment
                is wrong.
        """
        key = study_key(kind, spec)
        self.ensure_worker()
        return self.store.get(self.store.submit(kind, spec, key, priority=priority))

    def result(self, kind: str, spec: Mapping[str, Any]) -> Result | None:
        """The finished result of a study, of this computer or of those that come with the program."""
        return self.shelf.load(study_key(kind, spec))

    def job(self, identifier: str) -> Job:
        """The job of that id.

        Raises:
            WorkbenchError: there is none.
        """
        self._tend()
        return self.store.get(identifier)

    def latest(self, kind: str, spec: Mapping[str, Any]) -> Job | None:
        """The job that last asked for this study."""
        self._tend()
        return self.store.latest(study_key(kind, spec))

    def recent(self, count: int = 50) -> list[Job]:
        """The jobs that were last queued, newest first."""
        self._tend()
        return self.store.recent(count)

    def running(self) -> Job | None:
        """The job that runs: what all that is queued waits for."""
        self._tend()
        return self.store.running()

    def ahead(self, identifier: str) -> int:
        """How many other queued jobs go before this queued one."""
        return self.store.ahead(identifier)

    def workers(self, identifier: str) -> list[dict[str, Any]]:
        """What the workers of a running job do, a row each; none for a job that is run by one process."""
        return self.store.workers(identifier)

    def records(self, jobs: Sequence[Job]) -> dict[str, Record]:
        """What was expected of finished jobs and what they took, by their ids; of each question its last run alone."""
        ended = sorted((job for job in jobs if job.state == "done"), key=lambda job: job.created)
        last = {record_key(job.kind, job.spec): job.id for job in ended}
        return {last[key]: Record(**held) for key, held in self.store.get_cells(last).items()}

    def busy(self) -> Counts:
        """How many jobs run and wait."""
        self._tend()
        return self.store.counts()

    def cancel(self, identifier: str) -> Job:
        """Cancel a queued job, or ask a running one to stop; the worker ends itself when a study does not answer.

        Raises:
            WorkbenchError: there is no such job.
        """
        self._tend()
        return self.store.request_cancel(identifier)

    def bundle(self, identifier: str) -> bytes:
        """The bundle of a finished job, as a file's content.

        Raises:
            WorkbenchError: it is not done, its result is gone, or its model or texts have changed since.
        """
        job = self.job(identifier)
        with _room() as folder:
            target = folder / "study.zip"
            create(target, [job], store=self.store, shelf=self.shelf)
            return target.read_bytes()

    def open_bundle(self, content: bytes, name: str) -> Opened:
        """Take a bundle in; `name` is what messages call it.

        Raises:
            WorkbenchError: anything about it is wrong; nothing has changed then.
        """
        with _room() as folder:
            target = folder / "study.zip"
            target.write_bytes(content)
            return open_bundle(target, store=self.store, shelf=self.shelf, name=name)

    def carried(self) -> dict[str, dict[str, str]]:
        """Models that are known from bundles alone, each with its texts, as shown -> TEXT name."""
        return carried_models(self.store)

    def methods(self) -> dict[str, list[dict[str, Any]]]:
        """The methods by kind, as the worker last described them; before it ever did, those that the program ships."""
        return self.store.read("methods") or self.shelf.shipped_methods()

    def trouble(self) -> str | None:
        """Why the worker could not start, in words; None when it could, or has not tried."""
        return (self.store.read("worker") or {}).get("trouble")

    def notice(self) -> str | None:
        """One sentence when the list of jobs was found damaged and begun anew, until `dismiss_notice`."""
        return self.store.read(NOTICE)

    def dismiss_notice(self) -> None:
        """The notice has been read."""
        self.store.withdraw(NOTICE)

    def ensure_worker(self) -> None:
        """Start the worker unless the cache folder has one.

        Raises:
            WorkbenchError: the cache folder cannot be written, or a setting of the environment is wrong.
        """
        for check in (thread_count, cache_limit, from_environment):
            check()  # raises here, where somebody reads it, and not in the worker's log
        self._supervisor.ensure()

    def stop(self) -> None:
        """End the worker that this client started."""
        self._supervisor.stop()

    def _tend(self) -> None:
        """Notice a worker that has gone, while that matters: when something runs or waits."""
        counts = self.store.counts()
        if counts.running or counts.queued:
            self._supervisor.tend()


@contextmanager
def _room() -> Iterator[Path]:
    """A folder for the body.

    Raises:
        WorkbenchError: the folder for temporary files is full or cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
            yield Path(folder)
    except OSError as error:
        raise WorkbenchError(f"there is no room for a temporary file: {error.strerror or error}") from error
