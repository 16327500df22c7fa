"""Matrices that are quantized one by one: from statistics of their inputs, or from gradients of the loss."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from workbench.linalg import DampingRaised
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.site_statistics import Statistics
from workbench.model.sites import LEVELS, SiteStatistics
from workbench.model.statistics import collect
from workbench.model.texts import Windows
from workbench.model.weightstats import GRADIENTS, WeightStatistics
from workbench.progress import Progress, Steps, within
from workbench.quantizers.driving.model_task import Weights
from workbench.quantizers.driving.packing import Part
from workbench.quantizers.driving.schemes import quantize_matrix
from workbench.registry import quantizers
from workbench.scheme import Scheme

Assignment = Mapping[str, Scheme]


def input_needs(scheme: Scheme) -> set[str]:
    """The statistics of inputs that a scheme's quantizer reads."""
    return set(quantizers.get(scheme.quantizer).needs) & set(LEVELS)


def reads_gradients(scheme: Scheme) -> bool:
    """Whether a scheme's quantizer reads gradients of the loss."""
    return bool(set(quantizers.get(scheme.quantizer).needs) & set(GRADIENTS))


def full_weight(loaded: LoadedModel, matrix: Matrix, weights: Weights) -> Tensor:
    """The weight that is to be quantized: one that was given, or the model's own."""
    return weights[matrix.name] if matrix.name in weights else read_weight(loaded.model, matrix)


def quantize_one(
    part: Part, matrix: Matrix, weight: Tensor, stats: SiteStatistics | WeightStatistics | None, scheme: Scheme
) -> None:
    """Quantize one matrix into a part, and note what had to be changed for it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DampingRaised)
        part.weights[matrix.name] = quantize_matrix(weight, stats, scheme)
    raised = [str(warning.message) for warning in caught if issubclass(warning.category, DampingRaised)]
    if raised:
        part.notes[matrix.name] = "; ".join(raised)


def _statistics(
    loaded: LoadedModel, windows: Windows | None, assignment: Assignment, matrices: Sequence[Matrix]
) -> Steps[Statistics | None]:
    """What the schemes of these matrices ask of their inputs in the full model; None where it is nothing."""
    needs = set().union(*(input_needs(assignment[matrix.name]) for matrix in matrices))
    return (yield from collect(loaded, windows, needs=needs)) if needs and windows is not None else None


def quantize_by_gradients(
    loaded: LoadedModel,
    windows: Windows | None,
    assignment: Assignment,
    weights: Weights,
    matrices: Sequence[Matrix],
) -> Steps[Part]:
    """Matrices whose quantizers read squared gradients of the full model's loss; statistics of inputs if they ask."""
    inputs = yield from within(_statistics(loaded, windows, assignment, matrices), 0.0, 0.3)
    wanted, part = {matrix.name for matrix in matrices}, Part({}, {})

    def take(matrix: Matrix, known: WeightStatistics) -> None:
        if matrix.name in wanted:
            stats = known if inputs is None else replace(known, site=inputs.of(matrix))
            quantize_one(part, matrix, full_weight(loaded, matrix, weights), stats, assignment[matrix.name])

    asked = set().union(*(quantizers.get(assignment[name].quantizer).needs for name in wanted)) & set(GRADIENTS)
    yield from within(gradient_sweep(loaded, windows, needs=asked, consume=take), 0.3, 1.0)
    return part


def quantize_outside(
    loaded: LoadedModel,
    windows: Windows | None,
    assignment: Assignment,
    weights: Weights,
    matrices: Sequence[Matrix],
) -> Steps[Part]:
    """Matrices that stand in no block; their inputs are those of the full model."""
    inputs = yield from within(_statistics(loaded, windows, assignment, matrices), 0.0, 0.8)
    part = Part({}, {})
    for done, matrix in enumerate(matrices):
        yield Progress(0.8 + 0.2 * done / len(matrices), 1.0, f"quantizing {matrix.name}")
        stats = None if inputs is None else inputs.of(matrix)
        quantize_one(part, matrix, full_weight(loaded, matrix, weights), stats, assignment[matrix.name])
    return part
