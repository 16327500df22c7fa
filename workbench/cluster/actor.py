"""The process on a worker's side: it holds the model and makes parts of studies, with a store of its own in memory.

What it sends back are cells and plain facts. Bad input comes back as a sentence, so that no traceback of another
machine is shown for it; faults of the program are raised.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError, shown

BENCHES = 4
"""Works that stay prepared: a study goes back and forth between two texts."""


class Actor:
    """One worker.

    Args:
        threads: CPU threads of its computations.
        seed: seed of torch's generator.
    """

    def __init__(self, threads: int, seed: int = 0) -> None:
        # before anything imports torch: OpenMP reads it once
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._threads, self._seed = threads, seed
        self._context: Any = None
        self._loaded: Any = None
        self._works: dict[int, Any] = {}
        self._benches: dict[int, Any] = {}

    def greet(self) -> dict[str, Any]:
        """Where this is, and which versions run here."""
        from workbench import __version__
        from workbench.vocabulary import STUDY_VERSION

        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "study_version": STUDY_VERSION,
            "python": ".".join(map(str, sys.version_info[:2])),
        }

    def load(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """Load the model, given as keywords of `Context.model`; `digest` of what was found, or `refused` with why."""
        missing = missing_folder(str(model["name"]))
        if missing:
            return {"refused": missing}
        import torch

        from workbench.cluster.cells import Recorder
        from workbench.settings import cache_folder
        from workbench.studies.context import Context

        torch.set_num_threads(self._threads)
        torch.manual_seed(self._seed)
        self._context = Context(Recorder(), cache_folder() / "statistics")
        try:
            self._loaded = self._context.model(**model)
        except WorkbenchError as error:
            return {"refused": str(error)}
        return {"digest": self._loaded.identity.digest}

    def make(self, number: int, work: Any, asks: Sequence[Any], known: Mapping[str, Any]) -> dict[str, Any]:
        """Make parts of a work.

        Args:
            number: tells the work from others.
            work: the work, None when it was sent before.
            asks: what is asked of it.
            known: cells that the store has of the parts so far.

        Returns:
            `cells` that are new, `seconds` that they took without what is prepared once; or `refused` with why.
        """
        from workbench.progress import run

        self._context.cells.begin(known)
        if work is not None:
            self._works[number] = work
        try:
            if number not in self._benches:
                if len(self._benches) >= BENCHES:
                    self._benches.pop(next(iter(self._benches)))
                self._benches[number] = run(self._works[number].open(self._loaded, self._context))
            started = time.perf_counter()
            run(self._benches[number](asks))
        except WorkbenchError as error:
            return {"refused": str(error)}
        return {"cells": self._context.cells.written, "seconds": time.perf_counter() - started}


def missing_folder(name: str) -> str | None:
    """The sentence of a worker that does not see the folder of a model; None where it is there, or is no folder."""
    if not Path(name).is_absolute() or Path(name).is_dir():
        return None
    return (
        f"there is no folder {shown(name, 200)} on that machine; share it there under the same path, or give the id of "
        "a model of the hub"
    )
