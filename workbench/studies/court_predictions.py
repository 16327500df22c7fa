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

from collections.abc import Sequence

import torch

from workbench.measures.error import output_error_from_gram
from workbench.model.backward import batches_of, make_leaves, oriented, sum_gradients, values_at
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.statistics import Statistics
from workbench.model.texts import Windows
from workbench.model.weightstats import WeightStatistics
from workbench.progress import Progress, Steps, within
from workbench.scheme import Scheme
from workbench.studies.choice import find_matrices
from workbench.studies.court_truth import Dense

METRICS = ("first_order", "second_order", "fisher", "pqi", "pqi_own", "output_error")
Predictions = dict[str, dict[tuple[str, int], float]]
"""Metric -> (matrix name, width) -> prediction."""

NODES = 8
OWN_NODES = 2
"""Points of the path of one matrix alone: the midpoint rule with two is off by a few tenths of a percent."""


def predict(
    loaded: LoadedModel, windows: Windows, statistics: Statistics, weights: Sequence[tuple[Scheme, Dense]]
) -> Steps[Predictions]:
    """All predictions for all widths.

    Args:
        loaded: the model.
        windows: the calibration text.
        statistics: of the same text, with Gram matrices.
        weights: each scheme with the dense quantized weights of all matrices.
    """
    found: Predictions = {name: {} for name in METRICS}
    yield from within(_local(loaded, windows, weights, found), 0.0, 0.1)
    share = 0.9 / len(weights)
    for place, (scheme, dense) in enumerate(weights):
        start, bits = 0.1 + place * share, int(scheme.bits or 0)
        yield from within(_curved(loaded, windows, dense, bits, found), start, start + 0.45 * share)
        yield from within(_alone(loaded, windows, dense, bits, found), start + 0.45 * share, start + 0.95 * share)
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


def _curved(loaded: LoadedModel, windows: Windows, dense: Dense, bits: int, found: Predictions) -> Steps[None]:
    """Second order and the joint path."""

    def consume(matrix: Matrix, stats: WeightStatistics) -> None:
        cell = (matrix.name, bits)
        step = dense[matrix.name].double() - read_weight(loaded.model, matrix).double()
        bend = float((stats.get("hessian_step").double() * step).sum() / 2)
        found["second_order"][cell] = found["first_order"][cell] + bend
        found["pqi"][cell] = float(stats.get("path_signed").double().sum())

    needs = {"hessian_step", "path"}
    yield from gradient_sweep(loaded, windows, needs=needs, weights=dense, nodes=NODES, consume=consume)


def _alone(loaded: LoadedModel, windows: Windows, dense: Dense, bits: int, found: Predictions) -> Steps[None]:
    """The path of each matrix alone: only its own gradient is taken, so the pass back ends at its block."""
    matrices, batches = find_matrices(loaded, list(dense)), batches_of(loaded.model, windows.ids)
    for place, matrix in enumerate(matrices):
        step = dense[matrix.name].double() - read_weight(loaded.model, matrix).double()
        total = 0.0
        for node in range(OWN_NODES):
            values = values_at(loaded.model, [matrix], dense, (node + 0.5) / OWN_NODES)
            leaves = make_leaves(loaded.model, [matrix], values)
            note = f"path of {matrix.name} alone at {bits} bits"
            walk = sum_gradients(loaded.model, values, leaves, batches, note)
            sums = yield from within(walk, place + node / OWN_NODES, place + (node + 1) / OWN_NODES, len(matrices))
            gradient = oriented(sums.grad[matrix.name], matrix).double()
            total += float((gradient * step).sum()) / OWN_NODES
        found["pqi_own"][matrix.name, bits] = total


def _outputs(loaded: LoadedModel, statistics: Statistics, dense: Dense, bits: int, found: Predictions) -> Steps[None]:
    matrices = find_matrices(loaded, list(dense))
    for place, matrix in enumerate(matrices):
        yield Progress(place, len(matrices), f"output error of {matrix.name}")
        weight = read_weight(loaded.model, matrix)
        error = output_error_from_gram(weight, dense[matrix.name].to(torch.float32), statistics.gram_of(matrix))
        found["output_error"][matrix.name, bits] = error
