"""What tests of workers share: a store that counts, and waiting for processes to end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil

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
