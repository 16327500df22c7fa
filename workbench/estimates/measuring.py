"""What studies that measure quantized models need: evaluation, sensitivity, trade-off, the court, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.estimates.bench import Bench, Spec, schemes_of
from workbench.estimates.need import Need, in_turn, only
from workbench.estimates.parts import (
    changes,
    collect,
    compare,
    dense,
    forwards,
    gradient_pass,
    gradients,
    output_errors,
    reference,
)
from workbench.estimates.rounding import quantize, values
from workbench.estimates.scores import quantize_choice, reads
from workbench.estimates.table import costs_of
from workbench.model.texts import Windows
from workbench.scheme import Scheme
from workbench.studies.choice import find_matrices
from workbench.studies.court_predictions import NODES as COURT_NODES
from workbench.studies.court_predictions import OWN_NODES
from workbench.studies.sensitivity import MEASURED
from workbench.studies.sensitivity_cells import make_cells, nodes_of
from workbench.studies.sensitivity_whole import NEEDS
from workbench.usual import TOKENS

REOPENING = 8.0
"""Seconds in which another process imports what it needs to open a checkpoint."""

STOPPED = 0.6
"""Part of the windows that a sweep with a precision uses, about."""


@costs_of("evaluate")
def evaluate(bench: Bench, spec: Spec) -> Need:
    """The full model on a text, and a quantized one beside it."""
    windows = bench.evaluation(spec)
    full = reference(bench, windows)
    if spec.get("scheme") is None and spec.get("plan") is None:
        return full
    seen = bench.calibration(spec)
    held = quantize_choice(bench, spec, seen)
    return in_turn([full, held, collect(bench, seen, {"gram"}), compare(bench, windows), output_errors(bench)])


@costs_of("tradeoff")
def tradeoff(bench: Bench, spec: Spec) -> Need:
    """Points, each quantized and measured."""
    windows = bench.evaluation(spec)
    parts = [reference(bench, windows)]
    for point in spec["points"]:
        choice = {**spec, "scheme": point.get("scheme"), "plan": point.get("plan")}
        seen = bench.calibration(spec) if reads(bench, choice) else None
        parts.append(quantize_choice(bench, choice, seen).then(compare(bench, windows)).let_go())
    return in_turn(parts)


@costs_of("sensitivity")
def sensitivity(bench: Bench, spec: Spec) -> Need:
    """Every matrix at every width; cells that are kept cost nothing."""
    windows = bench.calibration(spec)
    chosen = schemes_of(spec, spec["quantizer"], spec["bits"], spec["options"])
    return table(bench, windows, chosen, by=spec["by"], measure=spec["measure"], spec=spec)


def table(bench: Bench, windows: Windows, chosen: Sequence[Scheme], *, by: str, measure: str, spec: Spec) -> Need:
    """A sensitivity table."""
    kind, nodes = ("output" if measure == "output-error" else by), int(spec.get("nodes") or 4)
    missing = _missing(bench, windows, chosen, kind, nodes)
    once = forwards(bench, windows)
    schemes = [scheme for scheme in chosen if missing.get(scheme.bits)]
    if kind == "output":
        errors = output_errors(bench)
        rounded = (quantize(bench, one, windows, isolated=True).then(errors).let_go() for one in schemes)
        return in_turn([once, collect(bench, windows, {"gram"}), *rounded]) if schemes else once
    if kind in MEASURED:
        of = STOPPED if spec.get("precision") is not None else 1.0
        codes = [quantize(bench, one, windows, isolated=kind == "isolated") for one in schemes]
        groups = len(schemes) if kind == "spared" else 1
        cells = sum(missing.values())
        swept = [changes(bench, windows, cells // groups, divergence=measure == "kl", of=of)] * (groups if cells else 0)
        under = Need(0.0, dense(bench) if kind == "spared" else 0)
        return in_turn([once, *codes, under, *swept])
    swept = {one.bits: gradients(bench, windows, NEEDS[by], nodes_of(one.bits, nodes)) for one in schemes}
    rounded = (values(bench, one, windows).then(swept[one.bits]).let_go() for one in schemes)
    return in_turn([once, *rounded])


def _missing(bench: Bench, windows: Windows, chosen: Sequence[Scheme], kind: str, nodes: int) -> dict[int | None, int]:
    """Width -> cells that the store does not hold."""
    cells = make_cells(bench.loaded, windows, find_matrices(bench.loaded), chosen, kind, nodes)
    kept = bench.context.cells.get_cells([cell.key for cell in cells])
    counts: dict[int | None, int] = {}
    for cell in cells:
        counts[cell.scheme.bits] = counts.get(cell.scheme.bits, 0) + (cell.key not in kept)
    return counts


@costs_of("court")
def court(bench: Bench, spec: Spec) -> Need:
    """Predictions of every metric, and every cell measured on two texts."""
    seen, unseen = bench.calibration(spec, TOKENS), bench.evaluation(spec, TOKENS)
    chosen = schemes_of(spec, spec["quantizer"], spec["bits"], spec["options"])
    cells = 1 + len(bench.shape.matrices)
    parts = [collect(bench, seen, {"gram"})]
    parts += [values(bench, one, seen, isolated=True) for one in chosen]
    parts.append(gradients(bench, seen, {"grad", "grad_sq"}).let_go())
    back = bench.shape.behind  # a path of one matrix goes back to its block and no further
    alone = gradient_pass(bench, seen, OWN_NODES * len(bench.shape.matrices) * (1 / 3 + back * 1 / 3))
    for _ in chosen:
        parts.append(gradients(bench, seen, {"hessian_step", "path"}, COURT_NODES).let_go())
        parts += [alone, output_errors(bench)]
    for text in (seen, unseen):
        parts += [reference(bench, text), compare(bench, text, len(chosen) * cells)]
    return in_turn(parts)


@costs_of("checkpoint")
def checkpoint(bench: Bench, spec: Spec) -> Need:
    """Quantize, write, and open again in another process."""
    seen = bench.calibration(spec) if reads(bench, spec) else None
    written = 4 * bench.shape.parameters
    writing = Need(REOPENING + written / 2e8, 2 * written)
    return quantize_choice(bench, spec, seen).then(writing).then(only(2 * bench.units.run))
