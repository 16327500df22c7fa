"""Scores of several metrics for every single weight at once: what `detach` and `agreement` are made of."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from workbench.errors import unknown
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.memory import require_memory
from workbench.progress import Steps
from workbench.registry import Method, salience
from workbench.studies.asked import Asked, ask
from workbench.studies.choice import find_matrices
from workbench.studies.scoring import Material, score


def ask_for_weights(names: Sequence[str] | None) -> list[Asked]:
    """The named metrics, or all that score single weights and need no second text, with their default options.

    Raises:
        WorkbenchError: one that does not.
    """
    usable = [name for name in salience.names() if scores_weights(salience.get(name))]
    for name in names or ():
        if name not in usable:
            raise unknown("metric that scores single weights", name, usable)
    return [ask(name, None) for name in names or usable]


def scores_weights(method: Method) -> bool:
    """Whether a metric gives every weight a score from the weights, one text and a quantizer."""
    return method.traits.get("granularity") == "element" and not method.traits.get("second_text")


def weight_scores(
    loaded: LoadedModel, asked: Sequence[Asked], material: Material
) -> Steps[dict[str, dict[str, Tensor]]]:
    """Metric -> matrix -> absolute scores `[out, in]`, float32.

    Raises:
        WorkbenchError: all scores together do not fit in memory, or whatever a metric refuses.
    """
    size = sum(matrix.parameters for matrix in find_matrices(loaded))
    require_memory(4 * size * len(asked), f"the scores of {len(asked)} metrics for every weight")
    found: dict[str, dict[str, Tensor]] = {one.method.name: {} for one in asked}

    def keep(matrix: Matrix, one: Asked, scores: Tensor, _: list[str]) -> None:
        found[one.method.name][matrix.name] = scores.float().abs()

    yield from score(loaded, asked, material, keep)
    return found
