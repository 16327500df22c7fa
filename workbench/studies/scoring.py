"""Several metrics on one model: what they look at is gathered once, then every matrix is scored by each of them.

All statistics of inputs come from one forward sweep, and all metrics that need gradients of the same text from one
gradient sweep (a path with another number of nodes is walked on its own).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from workbench.linalg import DampingRaised
from workbench.model.gradients import TEXT_FREE, SweepFacts, gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.path import is_moved
from workbench.model.sites import LEVELS
from workbench.model.statistics import Statistics, collect
from workbench.model.streaming import let_go
from workbench.model.texts import Windows
from workbench.model.weightstats import WeightStatistics, only_of_inputs
from workbench.progress import Progress, Steps, within
from workbench.scheme import Scheme
from workbench.studies.asked import Asked, sweeps_for
from workbench.studies.choice import (
    Assignment,
    find_matrices,
    quantize_assignment,
    read_assignment,
    reads_calibration,
)
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows, second_windows

DEFAULT_SCHEME = Scheme("rtn", 3, 64)
"""What a metric that compares full and quantized weights is given when nothing was chosen."""


@dataclass(frozen=True, eq=False)
class Material:
    """What metrics look at.

    Attributes:
        windows: the calibration text; None where nothing reads it.
        second: the second text; None where nothing reads it.
        statistics: of the inputs; None where nothing needs them.
        assignment: scheme of every matrix; None where no metric compares.
        weights: dense quantized weights, by matrix.
        changed: matrices in which quantization changed anything.
    """

    windows: Windows | None = None
    second: Windows | None = None
    statistics: Statistics | None = None
    assignment: Assignment | None = None
    weights: Mapping[str, Tensor] | None = None
    changed: int = 0


Consume = Callable[[Matrix, Asked, Tensor, list[str]], None]
"""Called with a matrix, the metric, its scores, and what the metric had to change to get them (a raised damping)."""


def gather(
    loaded: LoadedModel,
    asked: Sequence[Asked],
    *,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    text2: str | None = None,
    scheme: Mapping[str, Any] | Scheme | None = None,
    plan: Mapping[str, Any] | None = None,
    quantize: bool = False,
    context: Context,
) -> Steps[Material]:
    """Texts, statistics of the inputs and quantized weights for these metrics, and nothing that none of them reads.

    With `quantize` there are quantized weights also where no metric compares.

    Raises:
        WorkbenchError: a text is missing or too short, a bad scheme or plan, too little memory.
    """
    assignment, weights = None, None
    if quantize or any(one.compares for one in asked):
        chosen = DEFAULT_SCHEME if scheme is None and plan is None else scheme
        assignment = read_assignment(loaded, chosen, plan)
    needs = {need for one in asked for need in one.method.needs if need in LEVELS}
    walked = any(one.gradients - TEXT_FREE and not one.second for one in asked)
    read = bool(needs) or walked or reads_calibration(assignment)
    windows = calibration_windows(loaded, calibration, tokens, window) if read else None
    second = second_windows(loaded, text2, tokens, window) if any(one.second for one in asked) else None
    statistics = None
    if needs and windows is not None:
        steps = collect(loaded, windows, needs=needs, folder=context.statistics)
        statistics = yield from within(steps, 0.0, 0.8)
    if assignment is not None:
        weights = (yield from within(quantize_assignment(loaded, assignment, windows, context), 0.8, 1.0)).dense()
    changed = sum(is_moved(loaded.model, matrix, weights or {}) for matrix in find_matrices(loaded))
    return Material(windows, second, statistics, assignment, weights, changed)


def score(
    loaded: LoadedModel, asked: Sequence[Asked], material: Material, consume: Consume, memory: int | None = None
) -> Steps[list[SweepFacts]]:
    """Score every matrix by every metric; each metric sees the matrices in the model's order.

    Args:
        loaded: the model.
        asked: the metrics.
        material: by `gather`, for these metrics or more.
        consume: takes the scores; they are not kept here.
        memory: bytes that gradient sweeps may take.

    Returns:
        The facts of each gradient sweep.

    Raises:
        WorkbenchError: statistics of another model or text, or whatever a sweep or a metric refuses.
    """
    if material.statistics is not None:
        material.statistics.check(loaded, material.windows)
    plain = [one for one in asked if not one.gradients]
    groups = sweeps_for([one for one in asked if one.gradients])
    facts, parts = [], len(groups) + bool(plain)
    if plain:
        yield from within(_score_plain(loaded, plain, material, consume), 0, 1, parts)
    for place, group in enumerate(groups, start=parts - len(groups)):
        steps = _sweep(loaded, group, material, consume, memory)
        facts.append((yield from within(steps, place, place + 1, parts)))
    return facts


def _score_plain(loaded: LoadedModel, asked: Sequence[Asked], material: Material, consume: Consume) -> Steps[None]:
    matrices = find_matrices(loaded)
    for done, matrix in enumerate(matrices):
        weight = read_weight(loaded.model, matrix)
        let_go(loaded.model)
        known = WeightStatistics(quantized=(material.weights or {}).get(matrix.name, weight))
        for place, one in enumerate(asked):
            yield Progress(done + place / len(asked), len(matrices), f"{one.method.name} of {matrix.name}")
            _score_one(one, matrix, weight, known, material, consume)


def _sweep(
    loaded: LoadedModel, group: Sequence[Asked], material: Material, consume: Consume, memory: int | None
) -> Steps[SweepFacts]:
    needs = {need for one in group for need in one.method.needs if need not in LEVELS}

    def take(matrix: Matrix, known: WeightStatistics) -> None:
        weight = read_weight(loaded.model, matrix)
        let_go(loaded.model)
        for one in group:
            _score_one(one, matrix, weight, known, material, consume)

    return (
        yield from gradient_sweep(
            loaded,
            material.second if group[0].second else material.windows,
            needs=needs,
            weights=material.weights,
            nodes=max(one.nodes for one in group) or 1,
            consume=take,
            memory=memory,
        )
    )


def _score_one(
    one: Asked, matrix: Matrix, weight: Tensor, known: WeightStatistics, material: Material, consume: Consume
) -> None:
    site = None if material.statistics is None else material.statistics.of(matrix)
    stats = site if only_of_inputs(one.method.needs) else replace(known, site=site)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DampingRaised)
        scores = one.method(weight, stats, **one.options)
    raised = [str(warning.message) for warning in caught if issubclass(warning.category, DampingRaised)]
    consume(matrix, one, scores, raised)
