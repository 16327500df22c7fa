"""Ctrl-C: while plans are refined the best so far is written, at any other time the command ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from workbench.allocation.plan import parse, stored_bits
from workbench.cli.interrupting import heeding_interrupts
from workbench.jobs.client import Client
from workbench.progress import Progress
from workbench.studies import decision, refine
from workbench.studies.hurry import Hurry


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_best_plan_so_far_is_written(
    command: Any, tiny_llama_folder, sizes, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looking(*_: Any) -> Iterator[Progress]:
        interrupt()
        while True:
            yield Progress(0, 1, "around the plan")

    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(refine, "values_around", looking)
    monkeypatch.setattr(decision, "_misses", lambda *_: True)
    plan = tmp_path / "plan.json"
    asked = ("allocate", tiny_llama_folder, "--budget", 3.6, "--bits", "2,4", "--refine", 600, "--out", plan, *sizes)
    answer = command(*asked)
    assert answer.code == 130
    assert "the best plan so far" in answer.err
    assert answer.err.endswith("interrupted\n")
    assert stored_bits(parse(plan.read_bytes())) <= 3.6
    assert Client().recent() == [], "a longer search may find better, so this is not the answer that the app looks for"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_only_a_search_heeds_it_and_only_once() -> None:
    hurry = Hurry()
    with pytest.raises(KeyboardInterrupt), heeding_interrupts(hurry):
        interrupt()
    with heeding_interrupts(hurry), hurry.search():
        interrupt()
        assert hurry.asked
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert not hurry.searching
