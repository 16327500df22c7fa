"""The crew over a Ray that is made of objects: the same numbers as alone, lost workers, refused workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from by_workers import Alone, Counted
from fake_ray import FakeRay

import workbench
from workbench.cluster import run as cluster_run
from workbench.cluster.wish import Wish
from workbench.errors import WorkbenchError
from workbench.progress import run
from workbench.results import Result
from workbench.studies.context import Context


def by_crew(kind: str, spec: dict[str, Any], cells: Counted, wish: Wish | None = None) -> Result:
    return run(cluster_run.start(kind, spec, Context(cells), wish or Wish("local", 2)))


QUICK, LONGER = ("isolated", "evaluate", "drift"), ("spared", "joint path", "court", "front", "evaluate alone")
NAMES = (*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LONGER))


@pytest.mark.parametrize("name", NAMES)
def test_a_study_made_by_others_says_the_same(
    name: str, ray: FakeRay, alone: Alone, questions: dict[str, Any], counted: Counted
) -> None:
    kind, spec = questions[name]
    expected, found = alone(kind, spec), by_crew(kind, spec, counted)
    assert timeless(found.document) == timeless(expected.document)
    assert all(found.tables[one].equals(expected.tables[one]) for one in expected.tables)
    assert ray.made
    assert all(handle.dead for handle in ray.handles), "no worker is left when the study has ended"


def timeless(document: Any) -> Any:
    """A document without the times at which its plans were made, and how long that took."""
    if isinstance(document, dict):
        return {key: timeless(one) for key, one in document.items() if key not in ("created", "seconds")}
    return [timeless(one) for one in document] if isinstance(document, list) else document


def test_a_lost_worker_costs_only_what_it_had(
    ray: FakeRay, alone: Alone, questions: dict[str, Any], counted: Counted
) -> None:
    kind, spec = questions["isolated"]
    ray.dies = {0: 2}
    found = by_crew(kind, spec, counted)
    assert found.document == alone(kind, spec).document
    assert len(ray.handles) == 3, "its place was filled again"
    assert set(counted.written.values()) == {1}, "no cell that had arrived was made again"


def test_a_part_that_ends_every_worker_is_named(ray: FakeRay, questions: dict[str, Any], counted: Counted) -> None:
    ray.dies = dict.fromkeys(range(50), -1)
    with pytest.raises(WorkbenchError, match=r"proj.weight' has ended \d workers, .* ended: The actor died"):
        by_crew(*questions["isolated"], counted)
    assert all(handle.dead for handle in ray.handles)


def test_a_finished_part_is_not_made_again(ray: FakeRay, questions: dict[str, Any], counted: Counted) -> None:
    kind, spec = questions["isolated"]
    by_crew(kind, {**spec, "bits": [3]}, counted)
    found = by_crew(kind, spec, counted)
    assert (found.document["reused"], found.document["computed"]) == (14, 14)
    assert set(counted.written.values()) == {1}


def test_a_worker_of_another_version_is_refused(
    ray: FakeRay, questions: dict[str, Any], counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    greet = ray_greeting(version="0.0.9")
    monkeypatch.setattr("workbench.cluster.actor.Actor.greet", greet)
    sentence = rf"worker \d \(other, process 7\) has version 0.0.9 of the workbench and this .* {workbench.__version__}"
    with pytest.raises(WorkbenchError, match=sentence):
        by_crew(*questions["isolated"], counted)
    assert not counted.written.keys() - {next(iter(counted.written), "")}, "nothing but the reference was computed"


def ray_greeting(**changed: Any) -> Any:
    from workbench.vocabulary import STUDY_VERSION

    held = {"host": "other", "pid": 7, "version": workbench.__version__, "study_version": STUDY_VERSION}
    return lambda self: {**held, **changed}


def test_a_worker_with_another_study_version_is_refused(
    ray: FakeRay, questions: dict[str, Any], counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.cluster.actor.Actor.greet", ray_greeting(study_version=-1))
    with pytest.raises(WorkbenchError, match="has study version -1"):
        by_crew(*questions["isolated"], counted)


def test_a_worker_with_another_model_is_refused(
    ray: FakeRay, questions: dict[str, Any], counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.cluster.actor.Actor.load", lambda self, model: {"digest": "0" * 16})
    with pytest.raises(WorkbenchError, match=r"worker \d .* has another model under the name .*: its digest is 0{16}"):
        by_crew(*questions["isolated"], counted)


def test_a_folder_that_a_worker_lacks_is_named(
    ray: FakeRay, questions: dict[str, Any], counted: Counted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone")
    monkeypatch.setattr(cluster_run, "model_of", lambda kind, spec: {"name": gone})
    with pytest.raises(WorkbenchError, match=rf"worker \d .* cannot open the model: there is no folder '{gone}'"):
        by_crew(*questions["isolated"], counted)


def test_a_full_disk_is_said_by_the_store_and_ends_the_workers(ray: FakeRay, questions: dict[str, Any]) -> None:
    class Full(Counted):
        def put_cell(self, key: str, value: Any) -> None:
            if ray.made:
                raise WorkbenchError("the cache folder '/cache' cannot be written (disk full)")
            super().put_cell(key, value)

    with pytest.raises(WorkbenchError, match="cannot be written"):
        by_crew(*questions["isolated"], Full())
    assert all(handle.dead for handle in ray.handles)


def test_a_cancel_ends_the_workers(ray: FakeRay, questions: dict[str, Any], counted: Counted) -> None:
    kind, spec = questions["isolated"]
    steps = cluster_run.start(kind, spec, context := Context(counted), Wish("local", 2))
    while not ray.made:
        next(steps)
    steps.close()
    assert ray.handles
    assert all(handle.dead for handle in ray.handles)
    assert context.crew is None


def test_workers_are_given_what_was_wished_for(ray: FakeRay, questions: dict[str, Any], counted: Counted) -> None:
    by_crew(*questions["isolated"], counted, Wish("auto", 1, gpus=0.5, threads=1))
    assert len(ray.handles) == 1
    assert (ray.options["num_cpus"], ray.options["num_gpus"], ray.options["max_restarts"]) == (1, 0.5, 0)


def test_a_local_machine_without_gpu_has_no_room(ray: FakeRay, questions: dict[str, Any], counted: Counted) -> None:
    with pytest.raises(WorkbenchError, match=r"no room for a worker of 1 CPU and 0\.5 GPUs; it has 2 CPUs and 0 GPUs"):
        by_crew(*questions["isolated"], counted, Wish("local", 1, gpus=0.5))


def test_what_workers_do_is_told_row_by_row(ray: FakeRay, questions: dict[str, Any], counted: Counted) -> None:
    kind, spec = questions["isolated"]
    crews: list[Any] = []
    steps = cluster_run.start(kind, spec, Context(counted), Wish("local", 2), watch=crews.append)
    seen: list[dict[str, Any]] = []
    run(steps, lambda _: seen.extend(crews[0].rows() if crews else []))
    assert {row["state"] for row in seen} >= {"starting", "loading", "working"}
    assert max(row["cells"] for row in seen) > 2
    assert {row["worker"] for row in seen} == {1, 2}
