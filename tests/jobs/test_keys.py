"""Equal questions have equal keys; a changed model or text has another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench import vocabulary
from workbench.errors import WorkbenchError
from workbench.jobs import keys
from workbench.jobs.keys import study_key


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with the model `one`."""
    folder = tmp_path / "models" / "one"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setenv("WORKBENCH_MODELS", str(folder.parent))
    return folder


def test_the_order_of_keys_does_not_matter_and_everything_else_does() -> None:
    key = study_key("count", {"a": 1, "b": [1, 2]})
    assert len(key) == 64
    assert int(key, 16) >= 0
    assert study_key("count", {"b": [1, 2], "a": 1}) == key
    others = [("other", {"a": 1, "b": [1, 2]}), ("count", {"a": 2, "b": [1, 2]}), ("count", {"a": 1, "b": [2, 1]})]
    assert len({study_key(*other) for other in others} | {key}) == 4


def test_a_new_version_of_the_studies_has_new_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    key = study_key("count", {})
    monkeypatch.setattr(keys, "STUDY_VERSION", vocabulary.STUDY_VERSION + 1)
    assert study_key("count", {}) != key


def test_a_changed_model_has_another_key(models: Path) -> None:
    spec = {"model": "one"}
    key = study_key("inspect", spec)
    assert study_key("inspect", spec) == key
    (models / "model.safetensors").write_bytes(b"other weights")
    assert study_key("inspect", spec) != key


def test_a_model_of_the_hub_keeps_its_key_when_it_has_been_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"model": "someone/some-model"}
    key = study_key("inspect", spec)
    snapshot = tmp_path / "hub" / "models--someone--some-model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert study_key("inspect", spec) == key
    assert study_key("inspect", {"model": "someone/other"}) != key


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="no config"):
        study_key("inspect", {"model": str(tmp_path)})


@pytest.mark.parametrize("name", keys.TEXT_KEYS)
def test_a_changed_text_file_has_another_key(tmp_path: Path, name: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("once")
    key = study_key("evaluate", {name: str(text)})
    text.write_text("twice")
    assert study_key("evaluate", {name: str(text)}) != key


@pytest.mark.parametrize("name", ["demo:evaluation", "x" * 5000, "null\0byte", "", None, 7])
def test_a_name_that_is_no_file_stands_for_itself(name: object) -> None:
    assert study_key("evaluate", {"text": name}) == study_key("evaluate", {"text": name})
    assert study_key("evaluate", {"text": name}) != study_key("evaluate", {"text": "other"})


def test_columns_outside_the_vocabulary_are_named() -> None:
    assert vocabulary.unknown_columns(["matrix", "bits", "value"]) == []
    assert vocabulary.unknown_columns(["matrix", "wit", "bias"]) == ["bias", "wit"]
    assert all(name.isidentifier() and meaning for name, meaning in vocabulary.COLUMNS.items())
