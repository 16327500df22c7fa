"""The straight path from the model's weights to quantized ones, and the gradient integrated along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.model.backward import make_leaves, oriented, sum_gradients, values_at
from workbench.model.lazy_weights import LazyWeights
from workbench.model.matrices import Matrix
from workbench.model.streaming import parameter_of
from workbench.progress import Steps, within

Weights = Mapping[str, Tensor | None]
"""Matrix name -> dense quantized weight `[out, in]`; None or absent where the matrix stays as it is."""

RULES = ("midpoint", "gauss")


class Point(NamedTuple):
    """A place on the path, 0 at the model's own weights and 1 at the quantized ones, and its weight in the mean."""

    place: float
    weight: float


def path_points(nodes: int, rule: str = "midpoint") -> list[Point]:
    """Points of the path whose weights sum to 1.

    `midpoint` is the middles of equal parts, fair to a size that has kinks; `gauss` is the Gauss-Legendre rule, exact
    for polynomials of degree 2 nodes - 1, for a smooth sum.
    """
    if rule == "midpoint":
        return [Point((node + 0.5) / nodes, 1 / nodes) for node in range(nodes)]
    places, weights = leggauss(nodes)
    return [Point(float(place + 1) / 2, float(weight) / 2) for place, weight in zip(places, weights, strict=True)]


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
    points: Sequence[Point],
    batches: Sequence[Tensor],
    note: str,
) -> Steps[PathSums]:
    """The weighted sum over some points of the path, the gradient over all windows taken at each.

    The gradient is summed over all windows before its absolute value is taken, so that the amount of text does not
    decide how much of it cancels.

    Args:
        model: the model.
        matrices: its matrices; all of them move together.
        part: those whose sums are wanted.
        weights: where the path ends.
        points: of the path (`path_points`).
        batches: windows.
        note: what to say of it.
    """
    steps = {matrix.name: step_of(model, matrix, weights) for matrix in part}
    size = {name: torch.zeros_like(step) for name, step in steps.items()}
    signed = {name: torch.zeros_like(step) for name, step in steps.items()}
    losses: list[float] = []
    for node, (place, weight) in enumerate(points):
        values = values_at(model, matrices, weights, place)
        leaves = make_leaves(model, part, values)
        walk = sum_gradients(model, values, leaves, batches, f"path, point {node + 1} of {len(points)}, {note}")
        sums = yield from within(walk, node, node + 1, len(points))
        losses.append(finite(sums.loss))
        for name, step in steps.items():
            product = sums.grad.pop(name).mul_(step).mul_(weight)
            signed[name] += product
            size[name] += product.abs_()
    return PathSums(size, signed, tuple(losses))


def step_of(model: nn.Module, matrix: Matrix, weights: Weights) -> Tensor:
    """q - w, laid out as the model stores it, float32 or wider; zeros where the matrix stays as it is."""
    own = parameter_of(model, matrix.name)
    wide = own.to(torch.promote_types(own.dtype, torch.float32))
    other = weights.get(matrix.name)
    return torch.zeros_like(wide) if other is None else oriented(other, matrix).to(wide) - wide


def end_of(model: nn.Module, matrix: Matrix, weights: Weights) -> Tensor:
    """q `[out, in]` on the CPU, float32 or wider; the model's own weight where the matrix stays as it is."""
    own = oriented(parameter_of(model, matrix.name), matrix)
    other = weights.get(matrix.name)
    wide = torch.promote_types(own.dtype, torch.float32)
    return (own if other is None else other).to("cpu", wide).contiguous()


def is_moved(model: nn.Module, matrix: Matrix, weights: Weights) -> bool:
    """Whether quantization changed anything in a matrix."""
    if not moves(weights, matrix.name):
        return False
    own = oriented(parameter_of(model, matrix.name), matrix)
    return not torch.equal(weights[matrix.name].to(own), own)  # type: ignore[union-attr]


def moves(weights: Weights, name: str) -> bool:
    """Whether a matrix has a quantized weight, which is not made to find out."""
    return name in weights and (isinstance(weights, LazyWeights) or weights[name] is not None)


def finite(loss: float) -> float:
    """The loss, refused when it is not a number.

    Raises:
        WorkbenchError: it is NaN or infinite.
    """
    if loss != loss or abs(loss) == float("inf"):
        raise WorkbenchError(f"the loss of the model on this text is {loss}, so it has no gradient to look at")
    return loss
