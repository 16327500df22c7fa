"""Calibration texts of one's own: what is written, what is left alone, and that the models read it so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.model.texts import read_text
from workbench.ui import added_texts

BASE = "One day a dog ran.\n\nThe end. <b>&</b>"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "calibration.txt"
    path.write_text(BASE, encoding="utf-8")
    return path


def test_passages_stand_in_front_and_the_text_stays_as_it_is(base: Path) -> None:
    shown = added_texts.add("calibration.txt", str(base), ["A red ball.", " A red ball. ", "Süß 🐕"], 3)
    path = added_texts.offered()[shown]
    assert Path(path).parent == added_texts.folder()
    assert read_text(path).documents == ("A red ball.", "Süß 🐕") * 3 + (BASE,)
    assert base.read_text(encoding="utf-8") == BASE
    assert added_texts.about(shown) == added_texts.Added("calibration.txt", ("A red ball.", "Süß 🐕"), 3)
    assert added_texts.add("calibration.txt", str(base), ["A red ball.", "Süß 🐕"], 3) == shown


def test_adding_again_keeps_what_was_added_and_copies_count_for_all(base: Path) -> None:
    first = added_texts.add("calibration.txt", str(base), ["one"], 2)
    second = added_texts.add(first, added_texts.offered()[first], ["two"], 4)
    assert read_text(added_texts.offered()[second]).documents == ("one", "two") * 4 + (BASE,)
    assert added_texts.about(second) == added_texts.Added("calibration.txt", ("one", "two"), 4)
    assert set(added_texts.offered()) == {first, second}


def test_removing_takes_away_nothing_else(base: Path) -> None:
    shown = added_texts.add("calibration.txt", str(base), ["one"], 1)
    for name in ("calibration.txt", "../calibration.txt", str(base)):
        added_texts.remove(name)
    assert base.is_file()
    added_texts.remove(shown)
    assert added_texts.offered() == {}
    assert added_texts.about(shown) is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b.txt", "..", "<script>.txt", "x" * 400, "con\x00trol.txt"])
def test_names_never_leave_the_folder(base: Path, name: str) -> None:
    shown = added_texts.add(name, str(base), ["one"], 1)
    (path,) = added_texts.folder().iterdir()
    assert path.stem == shown
    assert not set("/\\<>\x00") & set(shown)


@pytest.mark.parametrize(
    ("passages", "copies"), [([], 1), ([" "], 1), (["x" * 10_001], 1), (["x"], 0), (["x"], 65), (["\ud800"], 1)]
)
def test_it_refuses_and_writes_nothing(base: Path, passages: list[str], copies: int) -> None:
    with pytest.raises(WorkbenchError):
        added_texts.add("calibration.txt", str(base), passages, copies)
    assert not added_texts.folder().is_dir() or not list(added_texts.folder().iterdir())


def test_only_so_many_are_kept(base: Path) -> None:
    for place in range(added_texts.MOST):
        added_texts.add("calibration.txt", str(base), [f"passage {place}"], 1)
    with pytest.raises(WorkbenchError, match="remove one first"):
        added_texts.add("calibration.txt", str(base), ["one more"], 1)
    added_texts.add("calibration.txt", str(base), ["passage 0"], 1)


@pytest.mark.parametrize("held", ["{", "[]", "[1]", '{"documents": "x"}', '[" "]', '{"a": ["x"]}'])
def test_other_json_is_no_text(base: Path, held: str) -> None:
    path = base.with_name("x.json")
    path.write_text(held, encoding="utf-8")
    with pytest.raises(WorkbenchError, match="collection of documents"):
        read_text(str(path))


def test_a_list_of_texts_is_a_text(base: Path) -> None:
    path = base.with_name("x.json")
    path.write_text(json.dumps(["one", "two"]), encoding="utf-8")
    assert read_text(str(path)).documents == ("one", "two")
