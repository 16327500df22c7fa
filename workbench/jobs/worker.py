"""The one process that holds the model: `python -m workbench.jobs.worker STORE PARENT_PID [PROGRAM]`.

It takes jobs from the store one at a time, writes their progress and keeps their results, until the program that
started it ends. It is started by `jobs.supervisor`; its log is `worker.log` in the cache folder.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.jobs.job import Job
from workbench.jobs.limits import lower_priority
from workbench.jobs.locks import held, worker_lock
from workbench.jobs.program import Program, load_program
from workbench.jobs.shelf import Shelf
from workbench.jobs.store import Store
from workbench.jobs.watch import Watch
from workbench.progress import Progress, run

POLL = 0.1
REPORT_INTERVAL = 0.2
LOCK_WAIT = 5.0
"""Seconds to wait for the lock: a former worker may be ending, a client may be looking whether there is one."""

SENTENCE_LIMIT = 300
OUT_OF_MEMORY = "there was not enough memory for this; choose fewer tokens, a smaller window or a smaller model"
MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory")

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Raised at a report; `progress.run` then closes the study, whose `finally` blocks put the model back."""


class Reporter:
    """Writes the progress of one job at most five times a second, and reads there whether it should stop."""

    def __init__(self, store: Store, job: str, workers: Callable[[], list[dict[str, Any]]] = list) -> None:
        self.store = store
        self.job = job
        self.workers = workers
        self.last = -REPORT_INTERVAL
        self.shown: list[dict[str, Any]] = []

    def __call__(self, progress: Progress) -> None:
        """Report; raises `Cancelled` when the job should stop."""
        now = time.monotonic()
        if now - self.last < REPORT_INTERVAL:
            return
        self.last = now
        if not self.store.progress(self.job, progress.done, progress.total, progress.note):
            raise Cancelled
        rows = self.workers()
        if rows != self.shown:
            self.store.publish_workers(self.job, rows)
            self.shown = rows


class Worker:
    """Runs jobs with a program, one after the other; the program's context lives as long as the worker."""

    def __init__(self, store: Store, shelf: Shelf, program: Program, watch: Watch) -> None:
        self.store = store
        self.shelf = shelf
        self.program = program
        self.watch = watch

    def serve(self, name: str) -> None:
        """Take jobs until the process ends.

        Raises:
            WorkbenchError: the store cannot be written; jobs could not be reported any more.
        """
        while True:
            job = self.store.claim(name)
            if job is None:
                time.sleep(POLL)
                continue
            self.watch.current = job.id
            self.work(job)
            self.watch.current = None
            self.store.forget_workers()
            gc.collect()

    def work(self, job: Job) -> None:
        """Run one job and write how it ended; the result is on disk before the job is called done."""
        log.info("job %s: %s", job.id, job.kind)
        try:
            with self.store.noting() as cells:
                result = run(
                    self.program.start(job.kind, job.spec, self.program.context),
                    Reporter(self.store, job.id, self.program.workers),
                )
            self.shelf.save(job.key, result, cells)
        except Cancelled:
            self.store.finish(job.id, "cancelled")
        except WorkbenchError as error:
            self.store.finish(job.id, "failed", str(error))
        except Exception as error:
            log.exception("job %s failed", job.id)
            self.store.finish(job.id, "failed", sentence(error), defect=not is_out_of_memory(error))
        else:
            self.store.finish(job.id, "done")


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch says so with a plain RuntimeError on the CPU."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in MEMORY_WORDS)


def sentence(error: Exception) -> str:
    """An unforeseen exception in one sentence: its type and its first line."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    first = str(error).strip().split("\n", 1)[0]
    told = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return f"{told[:SENTENCE_LIMIT]} (a fault of the program; worker.log in the cache folder says where)"


def prepare(store: Store, module: str | None, pid: int) -> Program:
    """Load the program and publish its methods; a program that does not load is said in the store.

    Raises:
        Exception: whatever importing it raises, after it was published.
    """
    try:
        program = load_program(module, store)
        store.publish("methods", program.describe())
    except Exception as error:
        told = str(error) if isinstance(error, WorkbenchError) else sentence(error)
        store.publish("worker", {"pid": pid, "ready": False, "trouble": told})
        raise
    store.publish("worker", {"pid": pid, "ready": True, "trouble": None})
    return program


def serve(given: argparse.Namespace) -> int:
    """Be the worker of a cache folder; returns at once, with status 0, when it has one already."""
    store = Store(given.store)
    with held(worker_lock(given.store.parent), wait=LOCK_WAIT) as alone:
        if not alone:
            log.info("another worker serves this cache folder")
            return 0
        store.recover()
        store.forget_workers()
        store.publish("worker", {"pid": os.getpid(), "ready": False, "trouble": None})
        watch = Watch(store, given.parent)
        watch.start()
        program = prepare(store, given.program, os.getpid())
        with store.connect():  # while one is open, closing the others does not flush the log to disk: 15 ms a write
            Worker(store, Shelf(given.store.parent), program, watch).serve(f"pid {os.getpid()}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, then `serve`; status 1 when the store cannot be used any more."""
    parser = argparse.ArgumentParser(prog="workbench.jobs.worker", description=__doc__)
    parser.add_argument("store", type=Path, help="the job store, a file in the cache folder")
    parser.add_argument("parent", type=int, help="process id of the program that starts the worker")
    parser.add_argument("program", nargs="?", help="module with program(store), instead of the workbench's studies")
    given = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    faulthandler.enable()  # a crash of native code leaves a traceback in the log
    lower_priority()
    try:
        return serve(given)
    except WorkbenchError as error:
        log.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
