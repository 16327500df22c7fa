"""Ray under the command line: the command is killed, goes on, is interrupted; nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from by_workers import SOON, gone

from workbench import settings

pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
pytestmark = pytest.mark.slow
AGENTS_LEAVE = 120.0
"""Two agents of Ray's look once a minute whether what they belong to is there; they hold no model."""


def command(*more: str) -> list[str]:
    words = ["sensitivity", "demo", "--bits", "2,3,4,8", "--tokens", "2048", "--json", "--quiet", "--threads", "1"]
    return [sys.executable, "-c", "import sys; from workbench import cli; cli.main(sys.argv[1:])", *words, *more]


def environment(cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    own = {"WORKBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(settings.PROJECT)}
    return {**kept, **own}


def cells_in(cache: Path) -> int:
    store = cache / "workbench.sqlite"
    if not store.is_file():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5) as connection:
            return connection.execute("select count(*) from cell").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def _heed_interrupts() -> None:
    """A program that was started in the background of a shell is deaf to them, and so are those that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin(cache: Path, until: int) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """The command with two workers, once it has kept some cells; and all processes that belong to it."""
    driver = subprocess.Popen(
        command("--ray", "local", "--workers", "2"),
        env=environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_heed_interrupts,
    )
    begun = time.monotonic()
    while cells_in(cache) < until:
        assert driver.poll() is None, "the command has ended too early"
        assert time.monotonic() < begun + 300
        time.sleep(0.05)
    return driver, psutil.Process(driver.pid).children(recursive=True)


def test_a_killed_driver_leaves_nothing_and_goes_on_where_it_was(tmp_path: Path) -> None:
    killed, through = tmp_path / "killed", tmp_path / "through"
    driver, family = begin(killed, 5)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    agents = [one for one in family if one.is_running() and "Agent" in one.name()]
    rest = [one for one in family if one not in agents]
    assert gone(rest), "workers and Ray's servers end with the program that started them"
    again, expected = (
        json.loads(subprocess.run(line, env=environment(cache), capture_output=True, text=True, check=True).stdout)
        for line, cache in ((command("--ray", "local", "--workers", "2"), killed), (command(), through))
    )
    assert 0 < again["reused"] < len(again["cells"])
    assert again["reused"] + again["computed"] == len(again["cells"])
    assert again["cells"] == expected["cells"]
    assert gone(agents, AGENTS_LEAVE)


def test_an_interrupt_ends_command_and_workers(tmp_path: Path) -> None:
    driver, family = begin(tmp_path, 1)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(SOON) == 130
    assert gone(family)
