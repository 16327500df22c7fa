"""What studies share while a process lives: the loaded model, the cells of sweeps, the folder for statistics."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from workbench.model.encoder import LoadedEncoder, load_any
from workbench.model.load import LoadedModel, load


@runtime_checkable
class CellStore(Protocol):
    """Where the single cells of a sweep are kept; `jobs.store.Store` keeps them on disk."""

    def get_cells(self, keys: Iterable[str]) -> dict[str, Any]:
        """The stored values of those keys that there are."""
        ...

    def put_cell(self, key: str, value: Any) -> None:
        """Store one value, JSON."""
        ...


class CellsInMemory:
    """Cells for a notebook: kept as long as the object lives."""

    def __init__(self) -> None:
        self._cells: dict[str, Any] = {}

    def get_cells(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those keys that there are."""
        return {key: self._cells[key] for key in keys if key in self._cells}

    def put_cell(self, key: str, value: Any) -> None:
        """Keep one value."""
        self._cells[key] = value


class Context:
    """Holds at most one model at a time: another one asked for, the old one is dropped first.

    Args:
        cells: where sweeps keep their cells; in memory when not given.
        statistics: folder for statistics files; when None they are collected anew each time. Quantized weights are
            kept in a folder beside it.
    """

    def __init__(self, cells: CellStore | None = None, statistics: Path | None = None) -> None:
        self.cells: CellStore = cells if cells is not None else CellsInMemory()
        self.statistics = statistics
        self.quantized = None if statistics is None else statistics.parent / "quantized"
        self._held: tuple[str, LoadedModel] | None = None

    def model(self, name: str, *, allow_download: bool = False, encoders: bool = False) -> LoadedModel:
        """The model of that name, loaded unless it is the one held and its files have not changed.

        `encoders` also opens encoders, which are else refused.
        """
        from workbench.model.fingerprint import model_digest

        digest = model_digest(name)
        held = self._held
        if held is not None and held[0] == digest and (encoders or not isinstance(held[1], LoadedEncoder)):
            return held[1]
        self._held = held = None
        gc.collect()
        loaded = (load_any if encoders else load)(name, allow_download=allow_download)
        self._held = (digest, loaded)
        return loaded


def cell_key(facts: Mapping[str, Any]) -> str:
    """The content hash of a cell: sha256 over the canonical JSON of everything that its value depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
