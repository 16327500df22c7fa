"""What each metric says that quantizing a matrix will do to the loss, in nats a token where it has that unit.

With d = q - w for all matrices, g the gradient and H the Hessian of the mean token loss on the calibration text:

    first_order   g . d
    second_order  g . d + d . (H d) / 2, the Hessian times the step of all matrices, so that interactions count
    fisher        F . d^2 / 2, with F the mean over windows of the squared gradient of a window's mean loss
    pqi           the integral of g(w + t d) . d along the joint path: its parts sum to the joint change
    pqi_own       the same integral with this matrix alone on its way
    output_error  the relative error of the matrix's outputs; ranks only
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from workbench.measures.error import output_error_from_gram
from workbench.model.backward import batches_of, oriented, values_at
from workbench.model.chain_alone import gradient_alone
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.statistics import Statistics
from workbench.model.texts import Windows
from workbench.model.weightstats import WeightStatistics
from workbench.progress import Progress, Steps, within
from workbench.scheme import Scheme
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context, cell_key
from workbench.studies.court_parts import PathWork, missing_parts
from workbench.studies.court_truth import Dense
from workbench.vocabulary import STUDY_VERSION

METRICS = ("first_order", "second_order", "fisher", "pqi", "pqi_own", "output_error")
Predictions = dict[str, dict[tuple[str, int], float]]
"""Metric -> (matrix name, width) -> prediction."""

NODES = 8
OWN_NODES = 2
"""Points of the path of one matrix alone: the midpoint rule with two is off by a few tenths of a percent."""


def predict(
    loaded: LoadedModel,
    windows: Windows,
    statistics: Statistics,
    weights: Sequence[tuple[Scheme, Dense]],
    context: Context,
) -> Steps[Predictions]:
    """All predictions for all widths; those along paths are kept as cells.

    Args:
        loaded: the model.
        windows: the calibration text.
        statistics: of the same text, with Gram matrices.
        weights: each scheme with the dense quantized weights of all matrices.
        context: holds the store.
    """
    found: Predictions = {name: {} for name in METRICS}
    yield from within(_local(loaded, windows, weights, found), 0.0, 0.1)
    if context.crew is not None:
        rows, schemes = (None, *find_matrices(loaded)), [scheme for scheme, _ in weights]
        parts = missing_parts(context, rows, schemes, lambda *one: _key(loaded, windows, *one))
        yield from within(context.spread(loaded, PathWork(windows), parts), 0.1, 1.0)
    share = 0.9 / len(weights)
    for place, (scheme, dense) in enumerate(weights):
        start, bits = 0.1 + place * share, int(scheme.bits or 0)
        steps = _kept(_key(loaded, windows, None, scheme), curved(loaded, windows, dense), context)
        _enter((yield from within(steps, start, start + 0.45 * share)), bits, found)
        steps = _alone(loaded, windows, scheme, dense, context)
        found["pqi_own"] |= yield from within(steps, start + 0.45 * share, start + 0.95 * share)
        yield from within(_outputs(loaded, statistics, dense, bits, found), start + 0.95 * share, start + share)
    return found


def _local(
    loaded: LoadedModel, windows: Windows, weights: Sequence[tuple[Scheme, Dense]], found: Predictions
) -> Steps[None]:
    """First order and Fisher: one pass for all widths, because neither depends on where the step goes."""

    def consume(matrix: Matrix, stats: WeightStatistics) -> None:
        weight = read_weight(loaded.model, matrix).double()
        gradient, fisher = stats.get("grad").double(), stats.get("grad_sq").double()
        for scheme, dense in weights:
            step, cell = dense[matrix.name].double() - weight, (matrix.name, int(scheme.bits or 0))
            found["first_order"][cell] = float((gradient * step).sum())
            found["fisher"][cell] = float((fisher * step.square()).sum() / 2)

    yield from gradient_sweep(loaded, windows, needs={"grad", "grad_sq"}, consume=consume)


def curved(loaded: LoadedModel, windows: Windows, dense: Dense) -> Steps[dict[str, Any]]:
    """Matrix -> what the Hessian adds (`bend`) and its part of the joint path (`path`)."""
    found: dict[str, Any] = {}

    def consume(matrix: Matrix, stats: WeightStatistics) -> None:
        step = dense[matrix.name].double() - read_weight(loaded.model, matrix).double()
        bend = float((stats.get("hessian_step").double() * step).sum() / 2)
        found[matrix.name] = {"bend": bend, "path": float(stats.get("path_signed").double().sum())}

    needs = {"hessian_step", "path"}
    yield from gradient_sweep(loaded, windows, needs=needs, weights=dense, nodes=NODES, consume=consume)
    return found


def alone(loaded: LoadedModel, windows: Windows, matrix: Matrix, dense: Dense, label: str) -> Steps[dict[str, Any]]:
    """The path of a matrix alone: only its own gradient is taken, so the pass back ends at its block."""
    batches = batches_of(loaded.model, windows.ids)
    step = dense[matrix.name].double() - read_weight(loaded.model, matrix).double()
    total = 0.0
    for node in range(OWN_NODES):
        values = values_at(loaded.model, [matrix], dense, (node + 0.5) / OWN_NODES)
        walk = gradient_alone(loaded.model, matrix, values, batches, f"path of {matrix.name} alone, {label}")
        gradient = oriented((yield from within(walk, node, node + 1, OWN_NODES)), matrix)
        total += float((gradient.cpu().double() * step).sum()) / OWN_NODES
    return {"path": total}


def _alone(
    loaded: LoadedModel, windows: Windows, scheme: Scheme, dense: Dense, context: Context
) -> Steps[dict[tuple[str, int], float]]:
    matrices, found = find_matrices(loaded, list(dense)), {}
    for place, matrix in enumerate(matrices):
        steps = alone(loaded, windows, matrix, dense, scheme.label)
        kept = _kept(_key(loaded, windows, matrix, scheme), steps, context)
        cell = yield from within(kept, place, place + 1, len(matrices))
        found[matrix.name, int(scheme.bits or 0)] = _number(cell["path"])
    return found


def _enter(cell: Mapping[str, Any], bits: int, found: Predictions) -> None:
    """Second order and the joint path of a width."""
    for name, one in cell.items():
        found["second_order"][name, bits] = found["first_order"][name, bits] + _number(one["bend"])
        found["pqi"][name, bits] = _number(one["path"])


def _kept(key: str, steps: Steps[dict[str, Any]], context: Context) -> Steps[dict[str, Any]]:
    """A cell as the store has it, or computed and kept."""
    held = context.cells.get_cells([key])
    if key not in held:
        held[key] = yield from steps
        context.cells.put_cell(key, held[key])
    return held[key]


def _key(loaded: LoadedModel, windows: Windows, matrix: Matrix | None, scheme: Scheme) -> str:
    return cell_key(
        {
            "study": "court, by paths",
            "version": STUDY_VERSION,
            "model": loaded.identity.digest,
            "windows": windows.digest,
            "matrix": None if matrix is None else matrix.name,
            "scheme": scheme.to_json(),
            "nodes": NODES if matrix is None else OWN_NODES,
        }
    )


def _number(held: float | None) -> float:
    return math.nan if held is None else held


def _outputs(loaded: LoadedModel, statistics: Statistics, dense: Dense, bits: int, found: Predictions) -> Steps[None]:
    matrices = find_matrices(loaded, list(dense))
    for place, matrix in enumerate(matrices):
        yield Progress(place, len(matrices), f"output error of {matrix.name}")
        weight = read_weight(loaded.model, matrix)
        error = output_error_from_gram(weight, dense[matrix.name].to(torch.float32), statistics.gram_of(matrix))
        found["output_error"][matrix.name, bits] = error
