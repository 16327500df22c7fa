"""What tests of workers share: a store that counts, and waiting for processes to end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from workbench.results import Result
from workbench.studies.context import CellsInMemory

SOON = 30.0
"""Seconds within which what was ended has gone, on a busy machine."""


def gone(processes: list[psutil.Process], seconds: float = SOON) -> bool:
    """Whether processes end in time."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


Alone = Callable[[str, dict[str, Any]], Result]


class Counted(CellsInMemory):
    """Cells as JSON has them, and how often each was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: Counter[str] = Counter()

    def put_cell(self, key: str, value: Any) -> None:
        self.written[key] += 1
        super().put_cell(key, json.loads(json.dumps(value)))


UNLIKE = ("created", "seconds")
"""Parts of documents that differ from run to run."""


def close(one: Any, other: Any, path: str = "") -> bool:
    """Whether two documents say the same, numbers to 1e-6 of their size; fails with the place where they do not."""
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys(), path
        return all(close(one[key], other[key], f"{path}/{key}") for key in one if key not in UNLIKE)
    if isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other), path
        return all(close(*pair, f"{path}/{place}") for place, pair in enumerate(zip(one, other, strict=True)))
    if isinstance(one, float) and isinstance(other, float):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-9), path
    else:
        assert one == other, path
    return True
