"""BiLLM's two searches over a block of columns: which of them are salient, and where to part the rest by size.

Source: BiLLM (arXiv 2402.04291). What is minimised is the paper's, the way there is ours: no masks, no loop over
binarized matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from workbench.ordering import ascending

PERCENTILES = 81
"""Break-points that are tried: the percentiles from the 10th to the 90th."""


def best_count(
    values: Float[Tensor, "out in"], order: Int64[Tensor, " columns"], most: int, *, terms: int, centred: bool
) -> int:
    """How many of the first columns to binarize apart from the others, for the least squared error over both sets.

    Every count from 1 to `most` is tried. Laid out by columns in their order, both sets are slices of memory, so no
    masks are read, and each column is worked on once a count.

    Args:
        values: what is binarized.
        order: the columns that count, those to be taken first in front.
        most: largest count; 0 when there is nothing to part.
        terms: binary terms of each set: 2 binarizes the residual again.
        centred: with means.
    """
    columns = values.T[order].contiguous()
    errors = [
        _leftover(columns[:count], terms, centred) + _leftover(columns[count:], terms, centred)
        for count in range(1, most + 1)
    ]
    return 1 + int(torch.stack(errors).argmin()) if errors else 0


def _leftover(columns: Float[Tensor, "in out"], terms: int, centred: bool) -> Float[Tensor, ""]:
    """Squared error of binarizing every row (here a column of memory) with some terms."""
    rest = columns - columns.mean(0) if centred else columns
    for _ in range(terms - 1):
        rest = rest - torch.copysign(rest.abs().mean(0), rest)
        rest = rest - rest.mean(0) if centred else rest
    return rest.square().sum() - len(rest) * rest.abs().mean(0).square().sum()


def best_break(values: Float[Tensor, "out in"], *, centred: bool) -> float:
    """The size p at which to part small and large values, for the least squared error of binarizing each set by rows.

    Tried are 81 percentiles of all sizes. With the rows sorted and summed up once, each set is one or two runs of a
    row, and its sum of |x - mean| follows from the running sums at its ends and at its mean.
    """
    sizes = ascending(values.abs()).double()
    place = torch.linspace(0.1, 0.9, PERCENTILES, dtype=torch.float64, device=values.device) * (len(sizes) - 1)
    below = place.floor().long()
    share = place - below
    points = sizes[below] * (1 - share) + sizes[place.ceil().long()] * share
    gains = _Runs.of(values).gains(points.to(values.dtype), centred)
    return float(points[gains.argmax()].to(values.dtype))


@dataclass(frozen=True, eq=False)
class _Runs:
    """Rows in ascending order with their running sums."""

    ordered: Float[Tensor, "out in"]
    sums: Float[Tensor, "out bound"]

    @classmethod
    def of(cls, values: Float[Tensor, "out in"]) -> _Runs:
        if values.is_cpu:  # numpy sorts short rows several times as fast
            held = values.numpy().copy()
            held.sort(axis=1)
            ordered = torch.from_numpy(held)
        else:
            ordered = values.sort(dim=1).values
        return cls(ordered, torch.nn.functional.pad(ordered.double().cumsum(1), (1, 0)))

    def gains(self, points: Float[Tensor, " point"], centred: bool) -> Float[Tensor, " point"]:
        """What binarizing takes off the sum of squares: n mean^2 + (sum |x - mean|)^2 / n of both sets, all rows."""
        bounds = points.expand(len(self.ordered), -1).contiguous()
        low = self._count(-bounds, right=True)
        high = self._count(bounds).maximum(low)
        total, columns = self.sums[:, -1:], self.ordered.shape[1]
        inner = self._sum(high) - self._sum(low)
        gain = torch.zeros_like(inner)
        for outside, count, held in ((False, high - low, inner), (True, columns - high + low, total - inner)):
            fill = count.clamp(min=1)
            mean = held / fill if centred else torch.zeros_like(held)
            place = self._count(mean.to(self.ordered.dtype))
            if outside:  # two runs, in front of low and from high on
                front, behind = place.minimum(low), place.maximum(high)
                under, under_sum = front + behind - high, self._sum(front) + self._sum(behind) - self._sum(high)
            else:
                place = place.maximum(low).minimum(high)
                under, under_sum = place - low, self._sum(place) - self._sum(low)
            distance = held - 2 * under_sum - mean * (count - 2 * under)
            gain += mean.square() * count + distance.square() / fill
        return gain.sum(0)

    def _count(self, bounds: Float[Tensor, "out point"], right: bool = False) -> Int64[Tensor, "out point"]:
        return torch.searchsorted(self.ordered, bounds, right=right)

    def _sum(self, place: Int64[Tensor, "out point"]) -> Float[Tensor, "out point"]:
        return self.sums.gather(1, place)
