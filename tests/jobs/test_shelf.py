"""Results on disk: found again, and bounded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from workbench import results
from workbench.errors import WorkbenchError
from workbench.jobs.shelf import Shelf, cache_limit
from workbench.results import Result
from workbench.trimming import PARTIAL_AGE


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "cache", shipped=tmp_path / "shipped")


def kilobytes(count: int) -> Result:
    return Result({"text": "x" * 1000 * count})


def use(shelf: Shelf, key: str, seconds_ago: float) -> None:
    then = time.time() - seconds_ago
    os.utime(shelf.folder / key, (then, then))


def kept(shelf: Shelf) -> list[str]:
    return sorted(path.name for path in shelf.folder.iterdir())


def test_shipped_results_are_found_behind_those_of_this_computer(shelf: Shelf) -> None:
    assert shelf.load("a") is None
    results.save(Result({"from": "shipped"}), shelf.shipped / "a")
    found = shelf.load("a")
    assert found is not None
    assert found.document == {"from": "shipped"}
    shelf.save("a", Result({"from": "here"}))
    found = shelf.load("a")
    assert found is not None
    assert found.document == {"from": "here"}


def test_the_least_recently_used_goes_first(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_LIMIT", "45 kB")
    for age, key in enumerate("cba"):
        shelf.save(key, kilobytes(10))
        use(shelf, key, 300 - age)
    assert shelf.load("c") is not None, "reading counts as use"
    shelf.save("d", kilobytes(10))
    assert kept(shelf) == ["a", "b", "c", "d"]
    shelf.save("e", kilobytes(10))
    assert kept(shelf) == ["a", "c", "d", "e"]
    assert shelf.load("b") is None


def test_the_newest_stays_even_when_it_alone_is_too_large(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.save("small", kilobytes(1))
    monkeypatch.setenv("WORKBENCH_CACHE_LIMIT", "5k")
    shelf.save("large", kilobytes(50))
    assert kept(shelf) == ["large"]


def test_what_a_crash_left_half_written_is_removed_once_it_is_old(shelf: Shelf) -> None:
    for name, age in ((".partial-old", PARTIAL_AGE + 60), (".partial-now", 1)):
        (shelf.folder / name).mkdir(parents=True)
        use(shelf, name, age)
    shelf.save("a", kilobytes(1))
    assert kept(shelf) == [".partial-now", "a"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 2 * 10**9), ("2 GB", 2 * 10**9), ("500MB", 5 * 10**8), ("1.5k", 1500), ("12", 12), ("1 tb", 10**12)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_LIMIT", text)
    assert cache_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "2 GiBs", "1e9", "nan"])
def test_other_sizes_are_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_LIMIT", text)
    with pytest.raises(WorkbenchError, match=f"WORKBENCH_CACHE_LIMIT has value '{text}'; write a size"):
        cache_limit()


def test_a_results_folder_that_cannot_be_written_is_named(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(result: Result, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "save", full)
    with pytest.raises(WorkbenchError, match=r"cannot be written \(No space left on device\).*WORKBENCH_CACHE"):
        shelf.save("a", kilobytes(1))
