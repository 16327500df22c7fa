"""What pages do with the client, and that it costs them no torch."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench import settings
from workbench.estimates.record import Record, record_key
from workbench.jobs.client import Client
from workbench.jobs.job import Counts, Job

Wait = Callable[[Client, Job], Job]

LOOK = """
import sys
from pathlib import Path
from workbench.jobs.client import Client
import workbench.jobs.store, workbench.vocabulary
client = Client(Path(sys.argv[1]))
client.recent(), client.busy(), client.methods(), client.result("count", {"steps": 1, "model": "demo/none"})
print([name for name in ("torch", "transformers", "streamlit", "plotly", "captum", "triton") if name in sys.modules])
"""


def test_the_client_leaves_torch_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, tmp_path], capture_output=True, text=True, check=True, cwd=settings.PROJECT
    )
    assert done.stdout.strip() == "[]"


def test_two_threads_asking_the_same_get_one_job_and_one_worker(client: Client, ended: Wait) -> None:
    found: list[Job] = []
    spec = {"steps": 20, "seconds": 0.05}
    threads = [threading.Thread(target=lambda: found.append(client.submit("count", spec))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in found}) == 1
    assert ended(client, found[0]).state == "done"
    assert len(client.recent()) == 1
    assert (client.cache / "worker.log").read_text().count("another worker serves") == 0


def test_a_worker_started_by_a_thread_that_ends_lives_on(client: Client, ended: Wait) -> None:
    # Streamlit runs each script in a thread that ends with it
    thread = threading.Thread(target=client.ensure_worker)
    thread.start()
    thread.join()
    pid = client._supervisor.pid
    assert pid is not None
    assert ended(client, client.submit("count", {"steps": 2})).worker == f"pid {pid}"


def test_estimate_and_truth_stand_beside_the_last_run_of_a_question(client: Client, ended: Wait) -> None:
    spec = {"steps": 1}
    first, second = (ended(client, client.submit("count", spec)) for _ in range(2))
    other = ended(client, client.submit("count", {"steps": 2}))
    held = Record(seconds=1.0, peak=2, took=3.0, processor=4.0, held=5)
    client.store.put_cell(record_key("count", spec), held.to_json())
    assert client.records([other, second, first]) == {second.id: held}


def test_run_again_replaces_the_result(client: Client, ended: Wait) -> None:
    spec = {"name": "s", "cells": 2, "seconds": 0}
    first = ended(client, client.submit("sweep", spec))
    second = ended(client, client.submit("sweep", spec))
    assert first.id != second.id
    assert [job.id for job in client.recent()] == [second.id, first.id]
    result = client.result("sweep", spec)
    assert result is not None
    assert result.document["reused"] == 2


def test_a_queued_job_is_cancelled_at_once(client: Client, started: Wait, ended: Wait) -> None:
    first = started(client, client.submit("count", {"steps": 600, "seconds": 0.05}))
    waiting = client.submit("count", {"steps": 1})
    assert client.busy() == Counts(1, 1)
    assert client.cancel(waiting.id).state == "cancelled"
    client.cancel(first.id)
    ended(client, first)
    assert client.busy() == Counts(0, 0)
    assert client.running() is None


def test_the_cache_folder_is_that_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "elsewhere"))
    client = Client()
    assert client.recent() == []
    assert client.methods() == client.shelf.shipped_methods(), "no worker has described its methods there"
    assert client.latest("count", {"steps": 1}) is None
    assert (tmp_path / "elsewhere" / "workbench.sqlite").exists()


def test_a_long_log_is_begun_anew(client: Client, ended: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.jobs.supervisor.LOG_LIMIT", 100)
    client.cache.mkdir()
    (client.cache / "worker.log").write_text("old" * 100)
    ended(client, client.submit("count", {"steps": 1}))
    assert (client.cache / "worker.log.1").read_text().startswith("oldold")
    assert "old" not in (client.cache / "worker.log").read_text()
