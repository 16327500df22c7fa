"""What the worker takes of the computer, and what it says when memory runs out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from workbench import settings
from workbench.errors import WorkbenchError
from workbench.jobs.client import Client
from workbench.jobs.limits import thread_count
from workbench.jobs.worker import OUT_OF_MEMORY, sentence

TOO_MUCH = """
import psutil
from workbench.jobs.limits import limit_memory
limit_memory()
free = psutil.virtual_memory().available
small = bytearray(1_000_000)
try:
    bytearray(free + 2**30)  # never touched: only the limit can refuse it
except MemoryError:
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts large allocations")
def test_an_allocation_beyond_the_free_memory_is_refused() -> None:
    environment = {**os.environ, "PYTHONPATH": str(settings.PROJECT)}
    done = subprocess.run([sys.executable, "-c", TOO_MUCH], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "refused\n"


def test_one_core_is_left_for_the_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_THREADS", raising=False)
    for cores, threads in ((1, 1), (2, 1), (16, 15)):
        monkeypatch.setattr("workbench.jobs.limits._cores", lambda cores=cores: cores)
        assert thread_count() == threads
    monkeypatch.setenv("WORKBENCH_THREADS", " 3 ")
    assert thread_count() == 3


@pytest.mark.parametrize("text", ["0", "-2", "many", "2.5", "1e3", "99999"])
def test_another_thread_count_is_named_before_anything_is_queued(
    text: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_THREADS", text)
    with pytest.raises(WorkbenchError, match=f"WORKBENCH_THREADS has value '{text}'; write a whole number"):
        client.submit("count", {"steps": 1})
    assert client.recent() == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_a_lack_of_memory_is_told_with_what_helps(error: Exception) -> None:
    assert sentence(error) == OUT_OF_MEMORY


def test_other_exceptions_are_told_by_type_and_first_line() -> None:
    assert sentence(ValueError("first\nsecond")).startswith("ValueError: first (a fault")
    assert sentence(ValueError()).startswith("ValueError (a fault")
    assert len(sentence(ValueError("x" * 10_000))) < 500
