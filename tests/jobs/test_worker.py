"""The worker process with fake studies: how jobs end, and what happens when processes die."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from workbench import settings
from workbench.jobs.client import Client
from workbench.jobs.job import INTERACTIVE, Job
from workbench.jobs.watch import GRACE

Wait = Callable[[Client, Job], Job]


def pid_of(client: Client) -> int:
    pid = client.store.read("worker")["pid"]
    assert isinstance(pid, int)
    return pid


def test_a_study_runs_and_its_result_is_found(client: Client, ended: Wait) -> None:
    spec = {"steps": 3}
    assert client.result("count", spec) is None
    job = ended(client, client.submit("count", spec))
    assert (job.state, job.share, job.error, job.note) == ("done", 1.0, None, "step 0")
    result = client.result("count", spec)
    assert result is not None
    assert result.document["steps"] == 3
    assert result.document["pid"] == pid_of(client) != os.getpid()
    assert list(result.tables["steps"]["value"]) == [0, 1, 2]
    latest = client.latest("count", spec)
    assert latest is not None
    assert latest.id == job.id
    assert client.methods() == {"salience": [{"name": "fake"}], "quantizers": [], "attribution": []}
    assert client.trouble() is None


def test_failures_are_sentences_and_the_worker_lives_on(client: Client, ended: Wait) -> None:
    refused = client.submit("refuse", {})
    defect = client.submit("defect", {})
    exhausted = client.submit("exhaust", {})
    unknown = client.submit("no such study", {})
    after = ended(client, client.submit("about", {}))
    assert after.state == "done"
    refused, defect, exhausted, unknown = (client.job(job.id) for job in (refused, defect, exhausted, unknown))
    assert {job.state for job in (refused, defect, exhausted, unknown)} == {"failed"}
    assert (refused.error, refused.defect) == ("bits has value 99; choose one of: 2, 3, 4, 8", False)
    assert (defect.error or "").startswith("IndexError: list index out of range (a fault of the program")
    assert "second line" not in (defect.error or "")
    assert defect.defect
    assert "not enough memory" in (exhausted.error or "")
    assert not exhausted.defect
    assert (unknown.error or "").startswith("KeyError: 'no such study'")
    log = (client.cache / "worker.log").read_text()
    assert "Traceback" in log
    assert "in defect" in log
    result = client.result("about", {})
    assert result is not None
    assert result.document["jobs"] == 5, "the context is the same for all jobs"


def test_the_worker_gives_way_to_the_server(client: Client, ended: Wait) -> None:
    ended(client, client.submit("about", {}))
    result = client.result("about", {})
    assert result is not None
    assert result.document["nice"] == min(19, os.nice(0) + 10)


def test_what_a_person_waits_for_goes_before_long_work(client: Client, ended: Wait, started: Wait) -> None:
    first = started(client, client.submit("count", {"steps": 30, "seconds": 0.05}))
    long = client.submit("count", {"steps": 1})
    quick = client.submit("about", {}, INTERACTIVE)
    assert (client.ahead(quick.id), client.ahead(long.id)) == (0, 1)
    assert client.busy().queued == 2
    running = client.running()
    assert running is not None
    assert running.id == first.id
    long, quick = ended(client, long), client.job(quick.id)
    assert (quick.ended or 0) <= (long.started or 0)


def test_a_running_job_is_cancelled_at_its_next_report(client: Client, ended: Wait, started: Wait) -> None:
    job = started(client, client.submit("count", {"steps": 600, "seconds": 0.05}))
    worker = pid_of(client)
    asked = time.time()
    client.cancel(job.id)
    job = ended(client, job)
    assert job.state == "cancelled"
    assert (job.ended or 0) - asked < GRACE
    assert client.result("count", job.spec) is None
    ended(client, client.submit("about", {}))
    result = client.result("about", {})
    assert result is not None
    assert result.document == {"pid": worker, "nice": result.document["nice"], "jobs": 2, "restored": True}


def test_progress_is_written_while_it_runs(client: Client, started: Wait, until: Callable[..., None]) -> None:
    job = started(client, client.submit("count", {"steps": 600, "seconds": 0.01}))
    seen: dict[float, float] = {}

    def look() -> bool:
        now = client.job(job.id)
        seen[now.heartbeat or 0] = now.done
        return len(seen) >= 4

    until(look)
    beats = sorted(seen)
    assert [seen[beat] for beat in beats] == sorted(seen.values())
    assert min(later - former for former, later in itertools.pairwise(beats)) > 0.19, "at most five reports a second"


def test_a_study_that_does_not_answer_is_ended_with_its_process(client: Client, ended: Wait, started: Wait) -> None:
    job = started(client, client.submit("deaf", {"seconds": 60}))
    former = pid_of(client)
    waiting = client.submit("about", {})
    asked = time.time()
    client.cancel(job.id)
    job = ended(client, job)
    assert job.state == "cancelled"
    assert GRACE <= (job.ended or 0) - asked < GRACE + 5
    assert ended(client, waiting).state == "done"
    assert pid_of(client) != former
    assert "in deaf" in (client.cache / "worker.log").read_text(), "the log says where it hung"


@pytest.mark.parametrize("how", ["kill", "crash"])
def test_a_worker_that_dies_interrupts_its_job_and_cells_are_kept(
    client: Client, ended: Wait, started: Wait, until: Callable[..., None], how: str
) -> None:
    spec = {"name": "s", "cells": 6, "seconds": 0.3}
    job = started(client, client.submit("sweep", spec))
    until(lambda: len(client.store.get_cells(f"s-{number}" for number in range(6))) >= 2)
    if how == "kill":
        os.kill(pid_of(client), signal.SIGKILL)
    else:
        client.cancel(job.id)
        ended(client, job)
        job = client.submit("crash", {})
    job = ended(client, job)
    assert job.state == "interrupted"
    assert "run it again" in (job.error or "")
    if how == "crash":
        assert "Segmentation fault" in (client.cache / "worker.log").read_text()
    again = client.submit("sweep", spec)
    assert again.id != job.id
    assert ended(client, again).state == "done"
    result = client.result("sweep", spec)
    assert result is not None
    assert result.document["reused"] >= 2
    assert result.document["values"] == list(range(6))


APP = """
import sys, time
from pathlib import Path
from workbench.jobs.client import Client
client = Client(Path(sys.argv[1]), program="tests.jobs.fake_program")
print(client.submit("count", {"steps": 2000, "seconds": 0.05}).id, flush=True)
time.sleep(60)
"""


def test_no_worker_outlives_the_app(
    make_client: Callable[..., Client], tmp_path: Path, until: Callable[..., None]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(settings.PROJECT)}
    app = subprocess.Popen([sys.executable, "-c", APP, tmp_path / "cache"], stdout=subprocess.PIPE, env=environment)
    assert app.stdout is not None
    with app.stdout:
        job = app.stdout.readline().decode().strip()
    looking = make_client()
    until(lambda: looking.job(job).note)
    worker = psutil.Process(pid_of(looking))
    app.kill()
    app.wait()
    worker.wait(3)
    assert looking.job(job).state == "interrupted"
    assert looking._supervisor.pid is None, "looking at jobs starts no worker"


def test_a_second_app_uses_the_worker_of_the_first(
    make_client: Callable[..., Client], ended: Wait, started: Wait
) -> None:
    first, second = make_client(), make_client()
    job = started(first, first.submit("count", {"steps": 40, "seconds": 0.05}))
    second.ensure_worker()
    joined = second.submit("count", {"steps": 40, "seconds": 0.05})
    other = second.submit("about", {})
    assert joined.id == job.id
    assert second._supervisor.pid is None
    assert ended(second, job).state == "done", "the live job of the first app was left alone"
    ended(second, other)
    result = second.result("about", {})
    assert result is not None
    assert result.document["pid"] == first._supervisor.pid
    first.stop()
    last = ended(second, second.submit("count", {"steps": 1}))
    assert last.state == "done"
    assert last.worker == f"pid {second._supervisor.pid}"


def test_a_program_that_does_not_load_fails_the_jobs_that_wait(
    make_client: Callable[..., Client], ended: Wait, until: Callable[..., None]
) -> None:
    client = make_client(program="tests.jobs.no_such_program")
    job = ended(client, client.submit("count", {"steps": 1}))
    assert job.state == "failed"
    assert (job.error or "").startswith("the worker process could not start: ModuleNotFoundError: No module named")
    assert "no_such_program" in (client.trouble() or "")
    assert ended(client, client.submit("count", {"steps": 1})).state == "failed", "asked again, it is tried again"


def test_stop_ends_the_worker_and_interrupts_its_job(client: Client, started: Wait) -> None:
    job = started(client, client.submit("count", {"steps": 2000, "seconds": 0.05}))
    worker = psutil.Process(pid_of(client))
    client.stop()
    assert not worker.is_running()
    assert client.job(job.id).state == "interrupted"
    client.stop()


@pytest.mark.slow
def test_the_workbenchs_own_studies_run_in_the_worker(
    make_client: Callable[..., Client],
    shared_models: Path,
    until: Callable[..., None],
    ended: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKBENCH_MODELS", str(shared_models))
    client = make_client(program=None)
    client.ensure_worker()
    until(client.methods, patience=120)
    assert "wanda" in {method["name"] for method in client.methods()["salience"]}
    job = ended(client, client.submit("inspect", {"model": "stories260K", "allow_download": False}))
    assert (job.state, job.error) == ("done", None)
    result = client.result("inspect", job.spec)
    assert result is not None
    assert result.document["model"]["id"] == "stories260K"
    assert len(result.tables["matrices"]) == len(result.document["matrices"]) == 35
