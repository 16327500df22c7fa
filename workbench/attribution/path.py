"""The straight line from a baseline to a prompt: the mean gradient on it, refined until the scores add up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import relative_gap
from workbench.attribution.sampling import rows_at_once
from workbench.attribution.targets import Target


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to refine.

    Attributes:
        nodes: points on the path at first.
        max_nodes: where doubling ends, converged or not.
        tolerance: relative gap that is small enough.
        batch: points in one forward pass, at most.
    """

    nodes: int
    max_nodes: int
    tolerance: float
    batch: int


@dataclass(frozen=True, slots=True)
class Path:
    """What was found on a path.

    Attributes:
        step: x - x'.
        slope: the mean of dF/dx.
        value: F(x).
        base: F(x').
        gap: F(x) - F(x') - sum(step * slope).
        relative: its size as a share of the change.
        nodes: points that were evaluated for this slope.
    """

    step: Float64[Tensor, "tok hid"]
    slope: Float64[Tensor, "tok hid"]
    value: float
    base: float
    gap: float
    relative: float
    nodes: int

    @property
    def scores(self) -> Float64[Tensor, " tok"]:
        """Integrated gradients, on the CPU."""
        return (self.step * self.slope).sum(-1).cpu()


def follow(
    adapter: Adapter,
    start: Float[Tensor, "1 tok hid"],
    stop: Float[Tensor, "1 tok hid"],
    target: Target,
    effort: Effort,
) -> Path:
    """The path from `start` to `stop`, its nodes doubled until the gap is within the tolerance or the nodes run out."""
    value, base = adapter.values(torch.cat([stop, start]), target.value).tolist()
    step = (stop - start)[0].double()
    nodes = effort.nodes
    while True:
        slope = mean_gradient(adapter, start, stop, target, nodes, effort.batch)
        gap = value - base - float((step * slope).sum())
        relative = relative_gap(gap, value - base)
        if relative <= effort.tolerance or nodes >= effort.max_nodes:
            return Path(step, slope, value, base, gap, relative, nodes)
        nodes = min(2 * nodes, effort.max_nodes)


def mean_gradient(
    adapter: Adapter,
    start: Float[Tensor, "1 tok hid"],
    stop: Float[Tensor, "1 tok hid"],
    target: Target,
    nodes: int,
    batch: int,
) -> Float64[Tensor, "tok hid"]:
    """The mean of dF/dx over the line, by a Gauss-Legendre rule, at most `batch` points at a time."""
    rows = rows_at_once(adapter.model, start.shape[1], batch, backward=True)
    total = torch.zeros_like(start[0], dtype=torch.float64)
    positions, weights = (torch.from_numpy(numbers).to(total) for numbers in leggauss(nodes))
    for place, weight in zip(((positions + 1) / 2).split(rows), (weights / 2).split(rows), strict=True):
        points = start + place.to(start)[:, None, None] * (stop - start)
        _, slope = adapter.gradients(points, target.value)
        total += torch.einsum("n,nth->th", weight, slope.double())
    return total


def held_note(held_fixed: Bool[Tensor, " tok"]) -> tuple[str, ...]:
    """The sentence on tokens that keep their embedding in the baseline."""
    count = int(held_fixed.sum())
    if not count:
        return ()
    if count == 1:
        return ("1 token is held fixed: its score is 0 by construction",)
    return (f"{count} tokens are held fixed: their scores are 0 by construction",)


def gap_note(relative: float, tolerance: float, nodes: int) -> tuple[str, ...]:
    """The warning of scores that do not add up."""
    if relative <= tolerance:
        return ()
    return (
        f"the scores miss the change that they explain by {relative:.2%} at {nodes} nodes, more than the tolerance of"
        f" {tolerance:.2%}: take them as a ranking",
    )
