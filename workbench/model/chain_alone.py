"""The gradient of one matrix at a value of its own, everything else as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from workbench.model.backward import GradientSums, make_leaves, sum_gradients
from workbench.model.chain import Chain
from workbench.model.chain_gradients import chain_gradients
from workbench.model.matrices import Matrix
from workbench.model.streaming import is_streamed
from workbench.progress import Steps


def gradient_alone(
    model: Any, matrix: Matrix, values: Mapping[str, Tensor], batches: Sequence[Tensor], note: str
) -> Steps[Tensor]:
    """The gradient of the mean token loss by one matrix, laid out as the model stores it; the pass back ends there.

    Args:
        model: the model.
        matrix: the matrix.
        values: its value by its name, as the model stores it; empty for the model's own.
        batches: windows.
        note: what to say of it.
    """
    if is_streamed(model):
        chain = Chain(model, batches)
        if (yield from chain.open()):
            return (yield from _by_chain(chain, matrix, values, note))
    held = dict(values)
    leaves = make_leaves(model, [matrix], held)
    sums = yield from sum_gradients(model, held, leaves, batches, note)
    return sums.grad[matrix.name]


def _by_chain(chain: Chain, matrix: Matrix, values: Mapping[str, Tensor], note: str) -> Steps[Tensor]:
    found: list[Tensor] = []

    def point(matrices: Sequence[Matrix]) -> dict[str, Tensor]:
        return dict(values) if matrix in matrices else {}

    def finish(matrices: Sequence[Matrix], sums: GradientSums) -> None:
        found.append(sums.grad[matrix.name])

    yield from chain_gradients(chain, point, finish, note, only=chain.home()[matrix.name])
    return found[0]
