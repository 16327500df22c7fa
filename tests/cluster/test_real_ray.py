"""Ray itself, on this machine: workers that are killed, refused and cancelled; nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from by_workers import SOON, Alone, Counted, close, gone

from workbench.cluster import run as cluster_run
from workbench.cluster.wish import Wish
from workbench.errors import WorkbenchError
from workbench.model.fit import fit_of
from workbench.model.load import load
from workbench.model.streamed_build import layout_of
from workbench.progress import Progress, run
from workbench.studies.context import Context

ray = pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
        )
        started = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
        yield
        ray.shutdown()
    assert gone(started)


@pytest.fixture
def crews() -> list[Any]:
    return []


def workers_of(crews: list[Any]) -> list[dict[str, Any]]:
    return crews[0].rows() if crews else []


@pytest.mark.usefixtures("_cluster")
def test_two_workers_make_the_same_cells_and_one_may_be_killed(
    alone: Alone, questions: dict[str, Any], counted: Counted, crews: list[Any]
) -> None:
    kind, spec = questions["isolated"]
    steps = cluster_run.start(kind, spec, Context(counted), Wish("local", 2), watch=crews.append)
    killed: list[int] = []

    def kill_one(_: Progress) -> None:
        rows = workers_of(crews)
        busy = [row["pid"] for row in rows if row["state"] == "working" and row["parts"]]
        if busy and not killed:
            killed.append(busy[0])
            os.kill(busy[0], signal.SIGKILL)

    found = run(steps, kill_one)
    assert killed, "a worker was killed while it worked"
    assert found.document == alone(kind, spec).document
    assert set(counted.written.values()) == {1}, "no cell that had arrived was made again"
    assert gone([psutil.Process(row["pid"]) for row in workers_of(crews) if psutil.pid_exists(row["pid"] or 0)])


@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize("name", ["evaluate", "drift"])
def test_windows_and_prompts_are_made_the_same(
    name: str, alone: Alone, questions: dict[str, Any], counted: Counted
) -> None:
    kind, spec = questions[name]
    found = run(cluster_run.start(kind, spec, Context(counted), Wish("local", 2)))
    assert found.document == alone(kind, spec).document


@pytest.mark.usefixtures("_cluster")
def test_workers_under_a_memory_limit_say_the_same(
    tiny_llama_folder: Path, alone: Alone, questions: dict[str, Any], counted: Counted
) -> None:
    kind, spec = questions["isolated"]
    model = load(str(tiny_llama_folder)).model
    asked = {**spec, "memory_limit": fit_of(layout_of(model), model.config).smallest}
    found = run(cluster_run.start(kind, asked, Context(counted), Wish("local", 2)))
    assert close(found.document, alone(kind, spec).document)


@pytest.mark.usefixtures("_cluster")
def test_a_cancel_ends_all_workers_within_seconds(
    questions: dict[str, Any], counted: Counted, crews: list[Any]
) -> None:
    kind, spec = questions["isolated"]
    pids: list[int] = []

    def cancel(_: Progress) -> None:
        working = [row["pid"] for row in workers_of(crews) if row["state"] == "working"]
        if working:
            pids.extend(row["pid"] for row in workers_of(crews) if row["pid"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cluster_run.start(kind, spec, Context(counted), Wish("local", 2), watch=crews.append), cancel)
    begun = time.monotonic()
    while any(psutil.pid_exists(pid) and "Actor" in name_of(pid) for pid in pids):
        assert time.monotonic() < begun + SOON
        time.sleep(0.1)
    assert pids


def name_of(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


@pytest.mark.usefixtures("_cluster")
def test_another_version_is_refused_by_name(
    questions: dict[str, Any], counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.__version__", "9.9.9")  # of this program; the workers have the real one
    with pytest.raises(WorkbenchError, match=r"worker \d \(.*, process \d+\) has version .* program has 9.9.9"):
        run(cluster_run.start(*questions["isolated"], Context(counted), Wish("local", 1)))


@pytest.mark.usefixtures("_cluster")
def test_another_model_and_a_missing_folder_are_refused_by_name(
    questions: dict[str, Any],
    counted: Counted,
    tiny_gpt2_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, spec = questions["isolated"]
    for folder, sentence in (
        (tiny_gpt2_folder, r"worker 1 \(.*\) has another model under the name '.*tiny-gpt2'"),
        (tmp_path / "gone", r"worker 1 \(.*\) cannot open the model: there is no folder '.*gone' on that machine"),
    ):
        model = {"name": str(folder)}
        monkeypatch.setattr(cluster_run, "model_of", lambda kind, spec, model=model: model)
        with pytest.raises(WorkbenchError, match=sentence):
            run(cluster_run.start(kind, spec, Context(counted), Wish("local", 1)))
