"""Tables of results in memory: the same file is read once, another one in its place is seen."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from workbench.jobs.shelf import Shelf
from workbench.jobs.tables import Tables
from workbench.results import Result


def written(path: Path, values: list[float]) -> Path:
    pd.DataFrame({"value": values}).to_parquet(path, index=False)
    return path


def test_a_file_is_read_once_and_what_a_caller_changes_stays_with_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, path = Tables(), written(tmp_path / "one.parquet", [1.0, 2.0])
    first = tables.read(path)
    monkeypatch.setattr(pd, "read_parquet", lambda path: pytest.fail("read again"))
    first.loc[0, "value"] = 9.0
    assert tables.read(path)["value"].tolist() == [1.0, 2.0]


def test_another_file_in_its_place_is_read(tmp_path: Path) -> None:
    tables, path = Tables(), written(tmp_path / "one.parquet", [1.0, 2.0])
    tables.read(path)
    os.replace(written(tmp_path / "two.parquet", [3.0, 4.0]), path)
    assert tables.read(path)["value"].tolist() == [3.0, 4.0]


def test_the_longest_unused_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = int(pd.DataFrame({"value": [1.0] * 100}).memory_usage(deep=True).sum())
    tables = Tables(room=2 * size)
    paths = [written(tmp_path / f"{name}.parquet", [float(name)] * 100) for name in range(3)]
    for path in (paths[0], paths[1], paths[0], paths[2]):
        tables.read(path)
    read: list[Path] = []
    whole = pd.read_parquet
    monkeypatch.setattr(pd, "read_parquet", lambda path: read.append(path) or whole(path))
    for path in (paths[0], paths[2], paths[1]):
        tables.read(path)
    assert read == [paths[1]]
    big = written(tmp_path / "big.parquet", [0.0] * 1000)
    assert len(tables.read(big)) == len(tables.read(big)) == 1000
    assert read == [paths[1], big, big], "a table that is too large is read each time"


def test_a_shelf_shows_a_result_that_was_computed_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, tmp_path / "shipped")
    for value in (1.0, 2.0):
        shelf.save("key", Result({"value": value}, {"table": pd.DataFrame({"value": [value]})}))
        found = shelf.load("key")
        assert found is not None
        assert found.tables["table"]["value"].tolist() == [found.document["value"]] == [value]
