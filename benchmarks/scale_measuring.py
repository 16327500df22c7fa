"""What `scale_model` is held against: single parts of sensitivity tables, and a run of two workers on Ray, here.

Single parts are timed in CPU seconds of one thread, the least of several runs, so that other work on the machine counts
little. The two-worker run is timed by the clock, as its users feel it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import workbench
from workbench import studies
from workbench.cluster.run import start
from workbench.cluster.task import BUNCH_SECONDS, IN_FLIGHT
from workbench.cluster.wish import LOCAL, Wish
from workbench.jobs.store import Store
from workbench.measures.perplexity import token_losses
from workbench.model.load import LoadedModel
from workbench.studies.choice import find_matrices
from workbench.studies.layer_error import schemes_for
from workbench.studies.sensitivity_cells import make_cells
from workbench.studies.sensitivity_parts import SweepWork
from workbench.studies.texts import calibration_windows

BITS = (2, 3, 4, 8)
TOKENS, WINDOW, REPEATS = 4096, 256, 3
RUN_TOKENS = 8192
SHARED = Path(__file__).resolve().parents[2] / "shared" / "models" / "stories260K"
WORKERS = 2


def measure_here() -> dict[str, Any]:
    """Everything that `scale_measured.json` holds."""
    torch.set_num_threads(1)
    subjects: list[tuple[str, str, str | None]] = [("demo", "demo", None)]
    if SHARED.is_dir():
        subjects.append((SHARED.name, str(SHARED), str(SHARED / "calibration.txt")))
    return {"cells": [cells_of(*one) for one in subjects], "two_workers": two_workers()}


class Forgetful:
    """Cells of which nothing is kept, so that a part that is made again is measured again."""

    def get_cells(self, keys: Iterable[str]) -> dict[str, Any]:
        """Every cell, before its first window."""
        return {key: {"loss": [], "kl": []} for key in keys}

    def put_cell(self, key: str, value: Any) -> None:
        """Nothing is kept."""


def cells_of(called: str, name: str, text: str | None) -> dict[str, Any]:
    """Every part of a measured table alone, as a worker makes it, and a forward over the same text."""
    loaded = workbench.load(name)
    windows = calibration_windows(loaded, text, TOKENS, WINDOW)
    matrices, schemes = find_matrices(loaded), schemes_for("rtn", BITS, 64, False, None)
    cells = make_cells(loaded, windows, matrices, schemes, "isolated", 4)
    context = studies.Context(Forgetful())
    bench = workbench.run(SweepWork(windows, matrices, cells, "isolated", "loss").open(loaded, context))
    by_matrix = {one.name: [cell.key for cell in cells if cell.matrix.name == one.name] for one in matrices}

    def part(name: str) -> Callable[[], Any]:
        return lambda: workbench.run(bench([(tuple(by_matrix[name]), len(windows.ids))]))

    part(matrices[0].name)()  # quantizes every matrix once, as a worker does before its first part
    parts = [cpu_seconds(part(one.name)) for one in matrices]
    return {
        "model": called,
        "shape": shape_of(loaded),
        "tokens": windows.tokens,
        "window": windows.window,
        "widths": list(BITS),
        "forward": cpu_seconds(lambda: workbench.run(token_losses(loaded.model, windows.ids))),
        "blocks": [one.block for one in matrices],
        "parts": parts,
    }


def shape_of(loaded: LoadedModel) -> list[int]:
    """The sizes that `scale_costs.Shape` has after its name."""
    config = loaded.model.config
    heads = (config.num_attention_heads, config.num_key_value_heads)
    return [config.num_hidden_layers, config.hidden_size, config.intermediate_size, *heads, config.vocab_size]


def cpu_seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Least CPU seconds of this process."""
    found = []
    for _ in range(repeats):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


def two_workers() -> dict[str, Any]:
    """A measured table of the embedded model by two workers of one thread, its parts' seconds as they answered."""
    log: list[tuple[float, float, int]] = []
    ready: list[float] = []

    def watch(crew: Any) -> None:
        take = crew._take

        def noting(seat: Any, errand: Any, answer: Any, task: Any) -> None:
            take(seat, errand, answer, task)
            if errand.kind == "load":
                ready.append(time.perf_counter())
            elif errand.kind == "make":
                log.append((time.perf_counter(), float(answer["seconds"]), len(errand.parts)))

        crew._take = noting

    spec = {"model": "demo", "quantizer": "rtn", "bits": list(BITS), "tokens": RUN_TOKENS, "window": WINDOW}
    with TemporaryDirectory() as folder:
        context = studies.Context(Store(Path(folder) / "workbench.sqlite"), Path(folder) / "statistics")
        workbench.run(start("sensitivity", spec, context, Wish(LOCAL, workers=WORKERS, threads=1), watch=watch))
    return {
        "model": "demo",
        "workers": WORKERS,
        "in_flight": IN_FLIGHT,
        "bunch_seconds": BUNCH_SECONDS,
        "ready": [one - ready[0] for one in ready],
        "makespan": log[-1][0] - ready[0],
        "parts": split(log),
    }


def split(log: Sequence[tuple[float, float, int]]) -> list[float]:
    """Seconds of single parts, in the order of the answers: a bunch's seconds in equal shares."""
    return [seconds / count for _, seconds, count in log for _ in range(count)]
