"""What is said of a sweep's workers while it runs, from the worker process to the Jobs page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workbench.jobs.program import load_program
from workbench.jobs.store import Store
from workbench.jobs.worker import Reporter
from workbench.progress import Progress, run
from workbench.results import Result
from workbench.ui.jobs import worker_table

ROWS = [
    {"worker": 1, "host": "a", "pid": 5, "state": "working", "parts": 3, "cells": 12, "restarts": 1, "note": "q_proj"},
    {"worker": 2, "host": None, "pid": None, "state": "starting", "parts": 0, "cells": 0, "restarts": 0, "note": ""},
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workbench.sqlite")


def test_rows_are_kept_while_the_job_runs_and_forgotten_after_it(store: Store) -> None:
    job = store.submit("sensitivity", {}, "key")
    assert store.claim("worker") is not None
    Reporter(store, job, lambda: ROWS)(Progress(1, 4, "half way"))
    assert store.workers(job) == ROWS
    assert store.workers("another") == []
    store.publish("methods", {"salience": []})
    store.forget_workers()
    assert store.workers(job) == []
    assert store.read("methods") == {"salience": []}, "other documents stay"


def test_a_job_of_one_process_has_none(store: Store) -> None:
    job = store.submit("inspect", {}, "key")
    assert store.claim("worker") is not None
    Reporter(store, job)(Progress(1, 4, "half way"))
    assert store.workers(job) == []


def test_the_page_says_where_a_worker_is_and_what_it_does() -> None:
    table = worker_table(ROWS)
    assert list(table["machine"]) == ["a", ""]
    assert list(table["state"]) == ["working", "starting"]
    assert list(table["cells"]) == [12, 0]
    assert list(table["replaced"]) == [1, 0]


def test_sweeps_go_to_the_cluster_and_the_rest_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crew:
        def rows(self) -> list[dict[str, Any]]:
            return ROWS

    def fanned_out(kind: str, spec: Any, context: Any, wish: Any, *, watch: Any) -> Iterator[Progress]:
        watch(Crew())
        yield Progress(0, 1)
        return Result({"kind": kind, "address": wish.address, "workers": wish.workers})

    def here(kind: str, spec: Any, context: Any) -> Iterator[Progress]:
        yield Progress(0, 1)
        return Result({"kind": kind})

    monkeypatch.setattr("workbench.jobs.limits.limit_memory", lambda: None)
    monkeypatch.setattr("workbench.cluster.run.start", fanned_out)
    monkeypatch.setattr("workbench.studies.start", here)
    monkeypatch.setenv("WORKBENCH_THREADS", "1")
    monkeypatch.setenv("WORKBENCH_RAY", "auto")
    monkeypatch.setenv("WORKBENCH_WORKERS", "3")
    program = load_program(None, store)
    assert run(program.start("court", {}, program.context)).document == {
        "kind": "court",
        "address": "auto",
        "workers": 3,
    }
    assert program.workers() == ROWS
    assert run(program.start("inspect", {}, program.context)).document == {"kind": "inspect"}
    assert program.workers() == []
    monkeypatch.delenv("WORKBENCH_RAY")
    alone = load_program(None, store)
    assert run(alone.start("court", {}, alone.context)).document == {"kind": "court"}
