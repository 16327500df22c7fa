"""The store of a worker: the cells that came with a part, and those that were written since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Recorder:
    """Cells in memory that know which of them are new; a `CellStore`."""

    def __init__(self) -> None:
        self._cells: dict[str, Any] = {}
        self.written: dict[str, Any] = {}
        """What was written since `begin`."""

    def begin(self, known: Mapping[str, Any]) -> None:
        """Start anew with cells that are known; those of earlier parts are forgotten, the driver has them."""
        self._cells, self.written = dict(known), {}

    def get_cells(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those keys that there are."""
        return {key: self._cells[key] for key in keys if key in self._cells}

    def put_cell(self, key: str, value: Any) -> None:
        """Keep one value, as a store on disk would give it back."""
        from workbench.results import finite

        self._cells[key] = self.written[key] = finite(value)
