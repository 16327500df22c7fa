"""Where in the network, and at which token, quantization changes a target: an exact split over matrix and token.

With D = W - Wq of every matrix, all matrices move together along W(a) = Wq + a D, and F(W) - F(Wq) is the integral over
a of the sum over matrices l and tokens t of g_lt . (D_l x_lt): x_lt is what the matrix reads at that token, g_lt the
gradient of F at what it gives, both in the model W(a). The integral is a Gauss-Legendre sum whose nodes are doubled
until the parts add up. Ours; the path is that of PQI (there for whole matrices), because the first order at one end can
have the wrong sign. This is no attribution method: it scores pairs of matrix and token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float, Float64, Int
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn
from torch.nn.functional import linear

from workbench.attribution.adapter import Adapter
from workbench.attribution.flow import watched
from workbench.attribution.result import relative_gap
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError

Laid = Callable[[float], AbstractContextManager[None]]
"""The model with the weights W(a) laid over it, for a in 0..1: 0 is quantized, 1 is full."""


@dataclass(frozen=True, slots=True)
class Damage:
    """The parts of F(W) - F(Wq).

    Attributes:
        parts: what F loses at a token by the rounding of a matrix, positive for a loss; units of F.
        full_value: F(W).
        quantized_value: F(Wq).
        gap: F(W) - F(Wq) - the sum of the parts.
        relative_gap: its size as a share of the change.
        nodes: points on the path.
    """

    parts: Float64[Tensor, "matrix tok"]
    full_value: float
    quantized_value: float
    gap: float
    relative_gap: float
    nodes: int


def damage_map(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    modules: Mapping[str, nn.Module],
    differences: Mapping[str, Float[Tensor, "out in"]],
    laid: Laid,
    *,
    nodes: int = 8,
    max_nodes: int = 64,
    tolerance: float = 1e-3,
) -> Damage:
    """Split F(W) - F(Wq) over the matrices of `modules`, in their order, and the tokens of the prompt.

    Costs a forward and a backward pass a node; memory is that of one prompt's inputs and outputs of all matrices.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        modules: linear modules by matrix name.
        differences: D = W - Wq of the matrices that are quantized; the rows of others are exactly 0.
        laid: gives the model the weights W(a) for a while.
        nodes: points on the path at first.
        max_nodes: where doubling ends.
        tolerance: relative gap that is small enough.

    Raises:
        WorkbenchError: a matrix was not called once with the whole prompt (a router sent tokens elsewhere).
    """
    ends = [_value(adapter, ids, target, laid, place) for place in (1.0, 0.0)]
    while True:
        parts = _integral(adapter, ids, target, modules, differences, laid, nodes)
        gap = ends[0] - ends[1] - float(parts.sum())
        relative = relative_gap(gap, ends[0] - ends[1])
        if relative <= tolerance or nodes >= max_nodes:
            return Damage(parts, ends[0], ends[1], gap, relative, nodes)
        nodes = min(2 * nodes, max_nodes)


def _value(adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target, laid: Laid, place: float) -> float:
    """F at a point of the path."""
    with laid(place):
        return float(adapter.values(adapter.embed(ids), target.value))


def _integral(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    modules: Mapping[str, nn.Module],
    differences: Mapping[str, Float[Tensor, "out in"]],
    laid: Laid,
    nodes: int,
) -> Float64[Tensor, "matrix tok"]:
    """The weighted sum over the nodes."""
    moved = {name: module for name, module in modules.items() if name in differences}
    total = torch.zeros(len(modules), ids.shape[1], dtype=torch.float64)
    rows = [place for place, name in enumerate(modules) if name in differences]
    if not moved:
        return total
    for position, weight in zip(*leggauss(nodes), strict=True):
        with laid((float(position) + 1) / 2):
            total[rows] += float(weight) / 2 * _slopes(adapter, ids, target, moved, differences)
    return total


def _slopes(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    modules: Mapping[str, nn.Module],
    differences: Mapping[str, Float[Tensor, "out in"]],
) -> Float64[Tensor, "matrix tok"]:
    """g . (D x) of every matrix and token in the model as it is now."""
    with adapter.recording(ids.shape[1]), watched(modules) as calls:
        embeds = adapter.embed(ids).requires_grad_()
        value = target.value(adapter.read_logits(embeds)).sum()
        for name in modules:
            _check(name, [tuple(given.shape) for given, _ in calls[name]], ids.shape[1])
        outputs = [calls[name][0][1] for name in modules]
        gradients = torch.autograd.grad(value, outputs, allow_unused=True, materialize_grads=True)
    rows = []
    for name, gradient in zip(modules, gradients, strict=True):
        given = calls[name][0][0].flatten(0, -2)
        moved = linear(given, differences[name].to(given))
        rows.append((gradient.flatten(0, -2).double() * moved.double()).sum(-1).cpu())
    return torch.stack(rows)


def _check(name: str, shapes: list[tuple[int, ...]], length: int) -> None:
    """Refuse a module whose calls cannot be read as one row a token."""
    if len(shapes) != 1 or prod(shapes[0][:-1]) != length:
        raise WorkbenchError(
            f"matrix {name!r} was called {len(shapes)} times, or not with all {length} tokens of the prompt at once;"
            " its damage cannot be split over tokens"
        )
