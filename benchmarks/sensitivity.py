"""Sensitivity tables: the measured sweep, whole and stopped early, and the integral one, against whole forwards.

python -m benchmarks sensitivity                                                    # the embedded model
python -m benchmarks.sensitivity --model FOLDER --calibration FILE --text FILE      # another one
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch

import workbench
from benchmarks.measurement import Measurement
from workbench import studies
from workbench.allocation.items import Choice, Item
from workbench.allocation.solve import read_items, solve_milp
from workbench.jobs.store import Store
from workbench.measures.perplexity import losses_of_logits, paired_difference, window_logits
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.quantizers.driver import quantize_model
from workbench.results import Result
from workbench.scheme import Scheme
from workbench.studies.choice import find_matrices
from workbench.studies.reference import Reference, compare, reference
from workbench.studies.texts import calibration_windows, evaluation_windows

WIDTHS = (2, 3, 4, 8)
BUDGETS = (2.75, 3.5, 4.5)
NEW_BUDGET = 3.25
PRECISION = 0.4
TOKENS = 8192

T = TypeVar("T")
Bits = Mapping[str, int]


@dataclass(frozen=True)
class Subject:
    """A model, the name of its calibration text and that of the text that judges; None for the model's own."""

    loaded: LoadedModel
    calibration: str | None = None
    text: str | None = None

    def quantized(self, bits: Bits) -> Mapping[str, torch.Tensor]:
        """Dense weights under a width for each matrix, rtn in groups of 64."""
        schemes = {name: Scheme(bits=width) for name, width in bits.items()}
        return workbench.run(quantize_model(self.loaded, schemes, None)).dense()

    def table(self, context: studies.Context, **asked: Any) -> Result:
        """A sensitivity table."""
        given = {"bits": WIDTHS, "calibration": self.calibration, "tokens": TOKENS, **asked}
        return workbench.run(studies.sensitivity(self.loaded, **given, context=context))


def measure() -> Iterator[Measurement]:
    """All measurements on the embedded model."""
    yield from measure_on(Subject(studies.Context().model("demo")))


def measure_on(subject: Subject) -> Iterator[Measurement]:
    """One measurement after the other, processor time of one thread, in one run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _measure(subject)
    finally:
        torch.set_num_threads(threads)


def _measure(subject: Subject) -> Iterator[Measurement]:
    windows = calibration_windows(subject.loaded, subject.calibration, TOKENS, None)
    full = workbench.run(reference(subject.loaded, windows))
    naive, values = timed(lambda: _naive(subject, full))
    yield Measurement(
        "naive sweep: the whole model for each cell", naive, "s", None, f"{len(values)} cells, {TOKENS} tokens"
    )
    alike, _ = timed(lambda: _losses_alone(subject, full))
    alike *= len(WIDTHS)
    note = "one width measured, for all of them; no divergence is taken, as in the sweep"
    yield Measurement("the same, losses alone", alike, "s", None, note)
    context = studies.Context()
    whole_seconds, whole = timed(lambda: subject.table(context))
    yield _share("measured sweep", whole_seconds, naive, 1 / 1.6)
    yield _share("measured sweep", whole_seconds, alike, 1 / 1.6, of="of the one with losses alone")
    worst = max(abs(cell["value"] - values[cell["matrix"], cell["bits"]]) for cell in whole.document["cells"])
    yield Measurement("its largest difference to the naive one", worst, "nat", 1e-6)
    yield from _early(subject, naive, whole)
    yield from _integral(subject, naive, whole)
    yield from _stored(subject, whole)


def _early(subject: Subject, naive: float, whole: Result) -> Iterator[Measurement]:
    seconds, early = timed(lambda: subject.table(studies.Context(), precision=PRECISION, budgets=BUDGETS))
    used = sum(cell["tokens"] for cell in early.document["cells"]) / sum(c["tokens"] for c in whole.document["cells"])
    yield _share("sweep stopped early", seconds, naive, 1 / 3, f"precision {PRECISION}, {used:.0%} of the tokens")
    other = sum(bits != plan(early, budget)[name] for budget in BUDGETS for name, bits in plan(whole, budget).items())
    yield Measurement("widths in which its plans differ", other, "", 0.5, f"budgets {BUDGETS}")


def _integral(subject: Subject, naive: float, whole: Result) -> Iterator[Measurement]:
    seconds, joint = timed(lambda: subject.table(studies.Context(), by="joint-path"))
    yield _share("integral sweep, 3, 3, 2 and 1 points", seconds, naive, 1 / 6)
    seconds, _ = timed(lambda: subject.table(studies.Context(), by="second-order"))
    yield _share("second-order sweep", seconds, naive)
    unseen = evaluation_windows(subject.loaded, subject.text, None, None)
    full = workbench.run(reference(subject.loaded, unseen))
    for budget in BUDGETS:
        plans = [plan(table, budget) for table in (joint, whole)]
        losses = [workbench.run(compare(full, subject.quantized(one))).losses for one in plans]
        rises = [paired_difference(one, full.losses).difference for one in losses]
        difference, error = paired_difference(losses[0], losses[1])
        note = f"{rises[0]:.4f} against {rises[1]:.4f} nats, standard error of the difference {error:.4f}, unseen text"
        yield Measurement(f"plan of {budget} bits: integral minus isolated", difference, "nat", None, note)


def _stored(subject: Subject, whole: Result) -> Iterator[Measurement]:
    with TemporaryDirectory() as folder:
        context = studies.Context(cells=Store(Path(folder) / "cells.sqlite"))
        subject.table(context, by="joint-path")
        seconds, _ = timed(lambda: plan(subject.table(context, by="joint-path"), NEW_BUDGET), time.perf_counter)
    yield Measurement("a new budget from stored cells", seconds, "s", 0.3, "cells read from disk, milp")
    random = np.random.default_rng(0)
    items = []
    for place in range(224):
        scale, numel = random.lognormal(-6, 1), int(random.choice([2**20, 2**22, 3 * 2**22]))
        costs = {bits: scale * 4.0**-bits * random.uniform(0.7, 1.4) for bits in (2, 3, 4, 5, 6, 8)}
        choices = [Choice("rtn", bits, 64, False, numel * bits, cost) for bits, cost in costs.items()]
        items.append(Item(f"matrix {place}", numel, tuple(choices)))
    seconds, found = timed(lambda: solve_milp(items, 4.1), time.perf_counter)
    yield Measurement("milp, 224 matrices and 6 choices", seconds, "s", 2.0, f"gap {found.gap}, {found.status}")


def _naive(subject: Subject, full: Reference) -> dict[tuple[str, int], float]:
    """Every matrix at every width, a run of the whole model for each."""
    names, found = [matrix.name for matrix in find_matrices(subject.loaded)], {}
    for width in WIDTHS:
        weights = subject.quantized(dict.fromkeys(names, width))
        for name in names:
            compared = workbench.run(compare(full, {name: weights[name]}))
            found[name, width] = paired_difference(compared.losses, full.losses).difference
    return found


def _losses_alone(subject: Subject, full: Reference) -> None:
    """One width, whole forwards, nothing but losses."""
    names = [matrix.name for matrix in find_matrices(subject.loaded)]
    weights = subject.quantized(dict.fromkeys(names, WIDTHS[0]))
    for name in names:
        for ids in full.windows.ids.split(8):
            with overlay(subject.loaded.model, {name: weights[name]}):
                losses_of_logits(window_logits(subject.loaded.model, ids), ids)


def plan(table: Result, budget: float) -> dict[str, int]:
    """The widths that the integer program chooses."""
    return {name: one.bits for name, one in solve_milp(read_items(table.document["cells"]), budget).choices.items()}


def timed(work: Callable[[], T], clock: Callable[[], float] = time.process_time) -> tuple[float, T]:
    """Seconds and the result."""
    started = clock()
    found = work()
    return clock() - started, found


def _share(
    name: str,
    seconds: float,
    naive: float,
    limit: float | None = None,
    more: str = "",
    of: str = "of the naive one",
) -> Measurement:
    note = ", ".join(filter(None, [f"{seconds:.2f} s, {naive / seconds:.2f}x faster", more]))
    return Measurement(f"{name}, part of the time {of}", seconds / naive, "", limit, note)


def main() -> None:
    parser = argparse.ArgumentParser(description="Sensitivity tables of one model against whole forwards.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--text", required=True)
    given = parser.parse_args()
    for measurement in measure_on(Subject(studies.Context().model(given.model), given.calibration, given.text)):
        print(measurement, flush=True)


if __name__ == "__main__":
    main()
