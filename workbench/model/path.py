"""The straight path from the model's weights to quantized ones, and the gradient integrated along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.model.backward import make_leaves, oriented, sum_gradients, values_at
from workbench.model.matrices import Matrix
from workbench.progress import Steps, within

Weights = Mapping[str, Tensor | None]
"""Matrix name -> dense quantized weight `[out, in]`; None or absent where the matrix stays as it is."""


@dataclass(frozen=True, eq=False)
class PathSums:
    """Mean over the nodes of g(t) (q - w) and of its absolute value, by parameter, as the model stores them.

    Attributes:
        size: with the absolute value.
        signed: without it.
        losses: mean loss at each node, nats.
    """

    size: dict[str, Tensor]
    signed: dict[str, Tensor]
    losses: tuple[float, ...]


def walk_path(
    model: Any,
    matrices: Sequence[Matrix],
    part: Sequence[Matrix],
    weights: Weights,
    nodes: int,
    batches: Sequence[Tensor],
    note: str,
) -> Steps[PathSums]:
    """Midpoint rule: the path in `nodes` equal parts, the gradient over all windows taken at the middle of each.

    The gradient is summed over all windows before its absolute value is taken, so that the amount of text does not
    decide how much of it cancels.

    Args:
        model: the model.
        matrices: its matrices; all of them move together.
        part: those whose sums are wanted.
        weights: where the path ends.
        nodes: points of the path.
        batches: windows.
        note: what to say of it.
    """
    steps = {matrix.name: step_of(model, matrix, weights) for matrix in part}
    size = {name: torch.zeros_like(step) for name, step in steps.items()}
    signed = {name: torch.zeros_like(step) for name, step in steps.items()}
    losses: list[float] = []
    for node in range(nodes):
        values = values_at(model, matrices, weights, (node + 0.5) / nodes)
        leaves = make_leaves(model, part, values)
        walk = sum_gradients(model, values, leaves, batches, f"path, point {node + 1} of {nodes}, {note}")
        sums = yield from within(walk, node, node + 1, nodes)
        losses.append(finite(sums.loss))
        for name, step in steps.items():
            product = sums.grad.pop(name).mul_(step).div_(nodes)
            signed[name] += product
            size[name] += product.abs_()
    return PathSums(size, signed, tuple(losses))


def step_of(model: nn.Module, matrix: Matrix, weights: Weights) -> Tensor:
    """q - w, laid out as the model stores it, float32 or wider; zeros where the matrix stays as it is."""
    own = model.get_parameter(matrix.name).detach()
    wide = own.to(torch.promote_types(own.dtype, torch.float32))
    other = weights.get(matrix.name)
    return torch.zeros_like(wide) if other is None else oriented(other, matrix).to(wide) - wide


def end_of(model: nn.Module, matrix: Matrix, weights: Weights) -> Tensor:
    """q `[out, in]` on the CPU, float32 or wider; the model's own weight where the matrix stays as it is."""
    own = oriented(model.get_parameter(matrix.name).detach(), matrix)
    other = weights.get(matrix.name)
    wide = torch.promote_types(own.dtype, torch.float32)
    return (own if other is None else other).to("cpu", wide).contiguous()


def is_moved(model: nn.Module, matrix: Matrix, weights: Weights) -> bool:
    """Whether quantization changed anything in a matrix."""
    other = weights.get(matrix.name)
    own = oriented(model.get_parameter(matrix.name).detach(), matrix)
    return other is not None and not torch.equal(other.to(own), own)


def finite(loss: float) -> float:
    """The loss, refused when it is not a number.

    Raises:
        WorkbenchError: it is NaN or infinite.
    """
    if loss != loss or abs(loss) == float("inf"):
        raise WorkbenchError(f"the loss of the model on this text is {loss}, so it has no gradient to look at")
    return loss
