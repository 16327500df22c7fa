"""A store on a folder that is read-only or full, and a store that is damaged."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from workbench import results, settings
from workbench.errors import WorkbenchError
from workbench.jobs.client import Client
from workbench.jobs.database import NOTICE
from workbench.jobs.keys import study_key
from workbench.jobs.store import Store
from workbench.results import Result

NOBODY = 65534

SUBMIT = """
import os
import sys
from pathlib import Path
from workbench.errors import WorkbenchError
from workbench.jobs.store import Store
if sys.argv[3:] and os.geteuid() == 0:
    os.setuid(int(sys.argv[3]))  # permissions do not bind root; done after the imports, which may need root's home
store = Store(Path(sys.argv[1]))
try:
    for number in range(int(sys.argv[2])):
        store.put_cell(str(number), "x" * 4000)
except WorkbenchError as error:
    print(error)
"""

FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n" + SUBMIT


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(settings.PROJECT)},
    )


def test_a_read_only_folder_is_named_with_the_way_out() -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)  # pytest's own folders let nobody but their owner in
        folder = Path(made) / "cache"
        folder.mkdir(mode=0o555)
        done = run(SUBMIT, folder / "workbench.sqlite", 1, NOBODY)
    assert done.stderr == ""
    assert f"the cache folder {str(folder)!r} cannot be written" in done.stdout
    assert "WORKBENCH_CACHE" in done.stdout


def test_a_cache_folder_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    client = Client(tmp_path / "file" / "cache")
    asked = (client.recent, client.busy, client.methods, client.ensure_worker, lambda: client.submit("count", {}))
    for ask in asked:
        with pytest.raises(WorkbenchError, match=r"cannot be written .*WORKBENCH_CACHE"):
            ask()


def test_results_that_come_with_the_program_are_shown_without_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    client = Client(tmp_path / "file" / "cache")
    monkeypatch.setattr(client.shelf, "shipped", tmp_path / "shipped")
    assert client.result("count", {"steps": 2}) is None
    results.save(Result({"steps": 2}), tmp_path / "shipped" / study_key("count", {"steps": 2}))
    found = client.result("count", {"steps": 2})
    assert found is not None
    assert found.document == {"steps": 2}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_full_disk_is_named_with_the_way_out(tmp_path: Path) -> None:
    done = run(FULL, tmp_path / "workbench.sqlite", 200)
    assert done.stderr == ""
    assert f"the cache folder {str(tmp_path)!r} cannot be written" in done.stdout
    store = Store(tmp_path / "workbench.sqlite")
    assert 0 < len(store.get_cells(map(str, range(200)))) < 200, "what was written before is still there"


def test_a_file_that_is_no_database_is_moved_aside_and_said(store: Store) -> None:
    store.path.write_bytes(b"not a database at all " * 100)
    job = store.submit("count", {}, "k")
    assert [one.id for one in store.recent()] == [job]
    notice = store.read(NOTICE)
    kept = [path for path in store.path.parent.iterdir() if "damaged" in path.name]
    assert len(kept) == 1
    assert kept[0].name in notice
    assert kept[0].read_bytes().startswith(b"not a database")
    client = Client(store.path.parent)
    assert client.notice() == notice
    client.dismiss_notice()
    assert client.notice() is None


def test_threads_that_find_the_damage_together_move_it_once(store: Store) -> None:
    store.path.write_bytes(b"x" * 5000)
    threads = [threading.Thread(target=store.submit, args=("count", {}, str(number))) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([path for path in store.path.parent.iterdir() if ".damaged-" in path.name]) == 1
    assert len(store.recent()) == 6


def test_pages_damaged_inside_are_found_when_they_are_read(store: Store) -> None:
    with store.transaction() as connection:
        values = [(str(number), '"' + "x" * 1000 + '"', 0.0) for number in range(200)]
        connection.executemany("insert into cell values (?, ?, ?)", values)
    held = bytearray(store.path.read_bytes())
    held[8192:] = b"\xff" * (len(held) - 8192)
    store.path.write_bytes(held)
    with pytest.raises(WorkbenchError, match="was damaged and was begun anew: ask again"):
        store.put_cell("other", 1)
    store.put_cell("other", 1)
    assert store.get_cells(["other"]) == {"other": 1}
    assert "moved to" in store.read(NOTICE)


def test_a_store_of_another_version_is_moved_aside(store: Store) -> None:
    store.put_cell("a", 1)
    connection = sqlite3.connect(store.path)
    connection.execute("pragma user_version = 99")
    connection.close()
    assert store.get_cells(["a"]) == {}
    assert "another version of the program, 99" in store.read(NOTICE)


def test_a_cache_that_is_deleted_while_the_app_runs_is_made_again(store: Store) -> None:
    store.put_cell("a", 1)
    for path in store.path.parent.iterdir():
        path.unlink()
    store.path.parent.rmdir()
    assert store.recent() == []


def test_a_store_held_by_another_process_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put_cell("a", 1)
    monkeypatch.setattr("workbench.jobs.database.PATIENCE", 0.1)
    connection = sqlite3.connect(store.path, isolation_level=None)
    connection.execute("begin immediate")
    with pytest.raises(WorkbenchError, match=r"held by another process for 0\.1 seconds; try again"):
        store.put_cell("b", 1)
    assert store.get_cells(["a"]) == {"a": 1}, "reading goes on meanwhile"
    connection.rollback()
    connection.close()
    store.put_cell("b", 1)
