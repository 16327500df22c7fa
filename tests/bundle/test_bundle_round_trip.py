"""What was computed on one machine is found on another by its own key, equal to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from forged import Machine
from safetensors.torch import load, save

from workbench.errors import WorkbenchError
from workbench.jobs.adopted import Finished, record
from workbench.jobs.keys import study_key
from workbench.results import Result


def same(found: Result | None, wanted: Result) -> bool:
    """Whether two results are equal in document, tables and files."""
    assert found is not None
    assert found.document == wanted.document
    assert found.tables.keys() == wanted.tables.keys()
    for name, table in wanted.tables.items():
        pd.testing.assert_frame_equal(found.tables[name], table)
    return {name: found.file(name) for name in found.files} == {name: wanted.file(name) for name in wanted.files}


def test_the_other_machine_finds_the_result_under_the_same_key(
    far: Machine, near: Machine, packed: Path, spec: dict[str, Any], result: Result
) -> None:
    opened = near.open(packed)
    assert (opened.fresh, opened.cells, opened.away, opened.other_program) == (2, 3, (), None)
    assert opened.keys[0] == study_key("sensitivity", spec)
    assert same(near.client.result("sensitivity", spec), result)
    assert near.client.result("inspect", {"model": "one", "allow_download": False}) is not None
    assert near.cells() == far.cells()
    (job,) = near.client.recent()
    (there,) = far.client.recent()
    assert (job.kind, job.spec, job.key, job.state) == ("sensitivity", spec, there.key, "done")
    assert (job.ended, job.started) == (there.ended, there.started)
    assert job.note.startswith("opened from a bundle")
    assert near.client.latest("sensitivity", spec) == job


def test_opening_twice_changes_nothing_and_a_bundle_of_it_holds_the_same(
    near: Machine, packed: Path, tmp_path: Path
) -> None:
    near.open(packed)
    before = near.state()
    again = near.open(packed)
    assert (again.fresh, again.cells) == (0, 0)
    assert near.state() == before
    second = Machine(tmp_path / "third")
    second.open(near.pack(tmp_path / "again.zip"))
    assert second.cells() == near.cells()
    assert second.state()[0] == near.state()[0]


def test_what_is_here_stays_as_it_is(near: Machine, packed: Path, spec: dict[str, Any]) -> None:
    key = f"{0:064x}"
    near.store.put_cell(key, {"loss": "mine"})
    near.shelf.save(study_key("sensitivity", spec), Result({"from": "here"}))
    opened = near.open(packed)
    assert (opened.fresh, opened.cells) == (1, 2)
    assert near.cells()[key] == {"loss": "mine"}
    found = near.client.result("sensitivity", spec)
    assert found is not None
    assert found.document == {"from": "here"}


def test_without_the_model_the_result_is_shown_under_a_name_of_its_own(
    far: Machine, near: Machine, packed: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = far.client.recent(1)[0].key
    monkeypatch.delenv("WORKBENCH_MODELS")
    opened = near.open(packed)
    (job,) = near.client.recent()
    name = job.spec["model"]
    assert opened.away == (name,)
    assert name.startswith("one@")
    assert same(near.client.result("sensitivity", job.spec), result)
    assert near.client.result("inspect", {"model": name, "allow_download": False}) is not None
    # the text still lies where it lay; a text that does not is offered under a name of its own
    assert near.client.carried() == {name: {"calibration.txt": job.spec["calibration"]}}
    assert near.shelf.load(digest) is not None, "found again once the model is here"


def test_another_model_of_that_name_is_not_taken_for_it(
    near: Machine, packed: Path, models: Path, spec: dict[str, Any]
) -> None:
    (models / "model.safetensors").write_bytes(b"other weights")
    opened = near.open(packed)
    assert opened.away[0].startswith("one@")
    assert near.client.result("sensitivity", spec) is None
    assert near.client.result("sensitivity", near.client.recent(1)[0].spec) is not None


def test_model_and_text_may_lie_in_another_folder(
    near: Machine, packed: Path, models: Path, spec: dict[str, Any], result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = models.parent.with_name("elsewhere")
    models.parent.rename(moved)
    monkeypatch.setenv("WORKBENCH_MODELS", str(moved))
    assert near.open(packed).away == ()
    asked = {**spec, "calibration": str(moved / "one" / "calibration.txt")}
    assert same(near.client.result("sensitivity", asked), result)


def test_a_text_that_is_not_here_has_a_name_that_no_file_has(
    near: Machine, packed: Path, models: Path, spec: dict[str, Any]
) -> None:
    (models / "calibration.txt").write_text("Another text.")
    near.open(packed)
    (job,) = near.client.recent()
    assert job.spec["calibration"].startswith("calibration.txt@")
    assert near.client.result("sensitivity", job.spec) is not None
    assert near.client.result("sensitivity", spec) is None


def test_statistics_of_the_model_go_along_when_asked(far: Machine, near: Machine, tmp_path: Path) -> None:
    statistics, tensors = far.cache / "statistics", save({"sum_sq:a": torch.ones(4)})
    statistics.mkdir()
    for digest in ("0123456789abcdef", "fedcba9876543210"):
        (statistics / f"{digest}-text-float32-2.safetensors").write_bytes(tensors)
    near.open(far.pack(tmp_path / "large.zip", statistics=statistics))
    (held,) = (near.cache / "statistics").iterdir()
    assert held.name.startswith("0123456789abcdef")
    assert load(held.read_bytes())["sum_sq:a"].tolist() == [1.0] * 4


def test_only_finished_jobs_about_files_that_are_still_there_are_bundled(
    far: Machine, models: Path, spec: dict[str, Any], tmp_path: Path
) -> None:
    target = tmp_path / "none.zip"
    far.store.submit("sensitivity", {**spec, "bits": [8]}, "other-key")
    with pytest.raises(WorkbenchError, match="is queued; only finished ones"):
        far.pack(target)
    record(far.store, Finished("sensitivity", {**spec, "bits": [8]}, study_key("sensitivity", {**spec, "bits": [8]})))
    with pytest.raises(WorkbenchError, match="no longer on disk"):
        far.pack(target)
    record(far.store, Finished("sensitivity", spec, study_key("sensitivity", spec)))
    (models / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(WorkbenchError, match="about other files than those that are there now"):
        far.pack(target)
    assert not target.exists()


def test_a_folder_that_cannot_be_written_leaves_no_bundle(
    far: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = set(tmp_path.iterdir())
    monkeypatch.setattr("workbench.bundle.create._put", full)
    with pytest.raises(WorkbenchError, match="could not be written: No space left"):
        far.pack(tmp_path / "study.zip")
    assert set(tmp_path.iterdir()) == before


def test_repetitive_documents_do_not_look_like_a_bomb(far: Machine, near: Machine, spec: dict, tmp_path: Path) -> None:
    asked = {**spec, "bits": [8]}
    result = Result({"model": {"id": "one"}, "cells": [None] * 100_000})
    far.shelf.save(study_key("sensitivity", asked), result)
    record(far.store, Finished("sensitivity", asked, study_key("sensitivity", asked)))
    near.open(far.pack(tmp_path / "study.zip"))
    assert same(near.client.result("sensitivity", asked), result)


def test_a_manifest_says_what_is_in_it(far: Machine, packed: Path) -> None:
    import zipfile

    with zipfile.ZipFile(packed) as opened:
        manifest = json.loads(opened.read("manifest.json"))
    assert manifest["schema"] == "wb.bundle-1"
    assert [one["companion"] for one in manifest["studies"]] == [False, True]
    assert all(name.startswith(("results/", "cells.json")) for name in manifest["files"])
