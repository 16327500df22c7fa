"""What studies share while a process lives: the loaded model, the cells of sweeps, the folder for statistics."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from workbench.model.devices import place
from workbench.model.encoder import LoadedEncoder, load_any
from workbench.model.load import LoadedModel, load
from workbench.model.memory import bound_memory
from workbench.model.streaming import held_bytes
from workbench.progress import Steps
from workbench.studies.hurry import Hurry
from workbench.studies.parts import Crew, Part, Work


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
        memory_limit: bytes that a model and the work on it may take; a larger model is read block by block. None for
            the memory that is free.
    """

    def __init__(
        self, cells: CellStore | None = None, statistics: Path | None = None, memory_limit: int | None = None
    ) -> None:
        self.cells: CellStore = cells if cells is not None else CellsInMemory()
        self.statistics = statistics
        self.quantized = None if statistics is None else statistics.parent / "quantized"
        self.crew: Crew | None = None
        """Others that make parts of studies; None for nobody."""
        self.hurry = Hurry()
        self.memory_limit = memory_limit
        self._held: tuple[tuple[str, int | None], LoadedModel] | None = None

    def model(
        self,
        name: str,
        *,
        allow_download: bool = False,
        encoders: bool = False,
        memory_limit: int | None = None,
        by_blocks: bool = False,
    ) -> LoadedModel:
        """The model of that name, loaded unless it is the one held, under the same limit, and its files are unchanged.

        Args:
            name: which model.
            allow_download: whether it may be fetched.
            encoders: also open encoders, which are else refused.
            memory_limit: bytes for the model and the work on it; None for the limit of this context.
            by_blocks: read it block by block, also where it fits in memory; it is held so afterwards.

        Raises:
            WorkbenchError: as `load` and `load_any`.
        """
        from workbench.model.fingerprint import model_digest

        limit = self.memory_limit if memory_limit is None else memory_limit
        key = model_digest(name), limit
        held = self._held
        if held is None or held[0] != key or not _as_wanted(held[1], encoders, by_blocks):
            self._held = held = None
            gc.collect()
            bound_memory(None)
            opened = load_any if encoders else load
            loaded = opened(name, allow_download=allow_download, memory_limit=limit, by_blocks=by_blocks)
            self._held = held = key, place(loaded)
        bound_memory(None if limit is None else max(0, limit - held_bytes(held[1].model)))
        return held[1]

    def spread(self, loaded: LoadedModel, work: Work, parts: Sequence[Part]) -> Steps[None]:
        """Let a crew make parts whose cells are not there yet; nothing happens without one.

        Raises:
            WorkbenchError: whatever the crew refuses.
        """
        if self.crew is not None and parts:
            yield from self.crew.make(loaded, work, parts, self.cells)


def _as_wanted(held: LoadedModel, encoders: bool, by_blocks: bool) -> bool:
    return (encoders or not isinstance(held, LoadedEncoder)) and (held.streamed or not by_blocks)


def cell_key(facts: Mapping[str, Any]) -> str:
    """The content hash of a cell: sha256 over the canonical JSON of everything that its value depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
