"""Weighted k-means in one dimension, one problem a row: Lloyd's steps, and the optimum by dynamic programming.

In one dimension clusters are runs of the sorted values, so a run's mean and squared error come from prefix sums in
O(1). The optimum over all partitions obeys D_k(j) = min_i D_(k-1)(i) + error(i, j) with a smallest minimizer that never
falls as j grows (the error of a run is Monge), so that divide and conquer finds a layer in O(n log n); Wang and Song,
Ckmeans.1d.dp (R Journal 2011) and Gronlund et al. (arXiv:1701.07204). Rows are done side by side, because their
midpoints are the same and only the stretches to be searched differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

Clustering = Literal["exact", "lloyd"]

LONGEST = 16384
"""Values a row up to which the optimum is looked for."""

ITERATIONS = 50
"""Steps of Lloyd at most, as in the SqueezeLLM code."""

CANDIDATES = 1 << 17
"""Run starts that are weighed at once: what fits a core's cache."""

NO_MASS = 1e-300
"""Stands for a weight of zero where it would be divided by."""


@dataclass(frozen=True, eq=False)
class SortedRows:
    """Rows in ascending order, and sums over their first j values for j = 0..n.

    Attributes:
        values: the values, float64.
        mass: sums of the weights, which are scaled to a mean of 1 a row.
        moment: sums of weight times value.
        energy: sums of weight times value squared.
    """

    values: Float64[Tensor, "row n"]
    mass: Float64[Tensor, "row sums"]
    moment: Float64[Tensor, "row sums"]
    energy: Float64[Tensor, "row sums"]

    def means(self, cuts: Int64[Tensor, "row edge"], fallback: Float64[Tensor, "row k"]) -> Float64[Tensor, "row k"]:
        """Mean of each run between neighbouring cuts; the fallback where a run has no weight.

        Where a run's weight drowns in the sums' rounding its mean is wrong, but never outside the run.
        """
        mass, moment = self.mass.gather(1, cuts).diff(dim=1), self.moment.gather(1, cuts).diff(dim=1)
        first = self.values.gather(1, cuts[:, :-1].clamp_max(self.values.shape[1] - 1))
        final = self.values.gather(1, (cuts[:, 1:] - 1).clamp_min(0))
        mean = torch.minimum(torch.maximum(moment / mass.clamp_min(NO_MASS), first), final)
        return torch.where(mass > 0, mean, fallback)


def cluster(
    values: Float[Tensor, "row n"],
    weights: Float[Tensor, "row n"],
    start: Float[Tensor, "row k"],
    method: Clustering = "exact",
) -> Float64[Tensor, "row k"]:
    """Ascending centroids of each row that make sum of weight * (value - nearest centroid)^2 small.

    A row whose weights sum to zero is clustered with equal weights, as in the SqueezeLLM code.

    Args:
        values: finite.
        weights: finite and not negative.
        start: ascending centroids to start from; Lloyd's result is never worse than they are.
        method: `lloyd`, or `exact` for the optimum; rows of more than `LONGEST` values are always done by Lloyd.
    """
    parts, step = [], max(1, CANDIDATES // values.shape[1])
    for first in range(0, len(values), step):
        rows = slice(first, first + step)
        held = sort_rows(values[rows], weights[rows])
        stepwise = method == "lloyd" or values.shape[1] > LONGEST
        parts.append(lloyd(held, start[rows]) if stepwise else optimum(held, start.shape[1]))
    return torch.cat(parts)


def sort_rows(values: Float[Tensor, "row n"], weights: Float[Tensor, "row n"]) -> SortedRows:
    """Sort rows and sum up; rows without any weight get equal weights."""
    ordered, order = values.sort(dim=1)
    ordered, mass = ordered.double(), weights.gather(1, order).double()
    mean = mass.mean(1, keepdim=True)
    mass = torch.where(mean > 0, mass / mean.clamp_min(NO_MASS), 1.0)
    sums = [_prefix(part) for part in (mass, mass * ordered, mass * ordered.square())]
    return SortedRows(ordered, *sums)


def lloyd(rows: SortedRows, start: Float[Tensor, "row k"], iterations: int = ITERATIONS) -> Float64[Tensor, "row k"]:
    """Lloyd's steps until no value changes its cluster; a cluster without weight stays put."""
    centroids, last = start.double(), None
    for _ in range(iterations):
        cuts = torch.searchsorted(rows.values, _midpoints(centroids))
        if last is not None and torch.equal(cuts, last):
            break
        last = cuts
        ends = torch.tensor([0, rows.values.shape[1]], device=cuts.device).expand(len(cuts), 2)
        centroids = rows.means(torch.cat((ends[:, :1], cuts, ends[:, 1:]), dim=1), centroids)
    return centroids


def optimum(rows: SortedRows, k: int) -> Float64[Tensor, "row k"]:
    """The best centroids there are; where fewer than k clusters are of use, some repeat."""
    count, n = rows.values.shape
    error, choices = rows.energy - rows.moment.square() / rows.mass.clamp_min(NO_MASS), []
    for layer in range(1, k):
        choice = torch.zeros((count, n + 1), dtype=torch.int64, device=error.device)
        floor = choices[-1] if choices else choice.clone()
        error = _next_layer(rows, error, choice, floor, _levels(n, whole=layer < k - 1))
        choices.append(choice)
    cuts = [torch.full((count, 1), n, dtype=torch.int64, device=error.device)]
    for choice in reversed(choices):
        cuts.append(choice.gather(1, cuts[-1]))
    edges = torch.cat([torch.zeros_like(cuts[0]), *cuts[::-1]], dim=1)
    nearest = rows.values.gather(1, edges[:, :-1].clamp_max(n - 1))
    return rows.means(edges, nearest)


def nearest_codes(values: Float[Tensor, "row n"], table: Float[Tensor, "row k"]) -> UInt8[Tensor, "row n"]:
    """Place of the level next to each value in its row's ascending table; halfway the lower one."""
    return torch.searchsorted(_midpoints(table.double()), values.double()).to(torch.uint8)


def _next_layer(
    rows: SortedRows,
    error: Float64[Tensor, "row sums"],
    choice: Int64[Tensor, "row sums"],
    floor: Int64[Tensor, "row sums"],
    levels: Iterator[tuple[range, int]],
) -> Float64[Tensor, "row sums"]:
    """Least errors of the first j values with one cluster more; `choice` is filled with where the last one begins.

    With one cluster more the last one never begins earlier, hence the floor.
    """
    n, better = rows.values.shape[1], error.clone()
    table = (error - rows.energy, rows.moment, rows.mass)
    for level, stride in levels:
        places = torch.arange(level.start, level.stop, level.step, device=error.device)
        after = places + stride
        high = torch.where(after <= n, choice[:, after.clamp_max(n)], n).minimum(places)
        low = torch.maximum(floor[:, places], choice[:, places - stride]).minimum(high)
        least, choice[:, places] = _weigh(table, places, low, high)
        better[:, places] = least + rows.energy[:, places]
    return better


def _levels(n: int, *, whole: bool) -> Iterator[tuple[range, int]]:
    """The places 1..n as divide and conquer comes to them: each lies a stride from places that are done.

    Of the last layer only the place n is asked for.
    """
    if not whole:
        yield range(n, n + 1), n
        return
    for place in reversed(range(n.bit_length())):
        yield range(1 << place, n + 1, 2 << place), 1 << place


def _weigh(
    table: tuple[Float64[Tensor, "row sums"], ...],
    places: Int64[Tensor, " place"],
    low: Int64[Tensor, "row place"],
    high: Int64[Tensor, "row place"],
) -> tuple[Float64[Tensor, "row place"], Int64[Tensor, "row place"]]:
    """The smallest sum over starts i in low..high, less the energy up to the place, and the first i that has it.

    The stretches lie one behind the other in one line; plain `index_select` reads it four times as fast as indexing.
    """
    lengths = (high - low + 1).flatten()
    first, total = lengths.cumsum(0) - lengths, int(lengths.sum())
    base = torch.arange(len(low), device=low.device).unsqueeze(1) * table[0].shape[1]
    stretch = torch.arange(len(lengths), device=low.device).repeat_interleave(lengths, output_size=total)
    start = ((base + low).flatten() - first).index_select(0, stretch).add_(torch.arange(total, device=low.device))
    before, moment, mass = (part.view(-1).index_select(0, start) for part in table)
    ends = [part.index_select(1, places).view(-1).index_select(0, stretch) for part in table[1:]]
    moment, mass = ends[0].sub_(moment), ends[1].sub_(mass).clamp_min_(NO_MASS)
    sums = before.sub_(moment.square_().div_(mass))
    least = torch.segment_reduce(sums, "min", lengths=lengths)
    tied = (sums == least.index_select(0, stretch)).nonzero().flatten()
    leading = torch.searchsorted(tied, first)
    return least.view_as(low), (tied[leading] - first).view_as(low) + low


def _midpoints(centroids: Float64[Tensor, "row k"]) -> Float64[Tensor, "row between"]:
    return (centroids[:, :-1] + centroids[:, 1:]) / 2


def _prefix(terms: Float64[Tensor, "row n"]) -> Float64[Tensor, "row sums"]:
    return torch.nn.functional.pad(terms.cumsum(1), (1, 0))
