"""Values counted into bins and channels averaged into blocks: tensors made small enough for a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import check_finite


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values in `low <= value < high`; the last bin also holds its upper edge."""

    low: Float[Tensor, " bin"]
    high: Float[Tensor, " bin"]
    count: Int64[Tensor, " bin"]


class BlockMeans(NamedTuple):
    """Means of neighbouring channels: `start` is the first channel of each block."""

    start: Int64[Tensor, " block"]
    mean: Float[Tensor, " block"]


def histogram(values: Real[Tensor, "*shape"], *, low: float, high: float, bins: int = 64) -> Histogram:
    """Counts in `bins` equal bins from `low` to `high`, float64 edges; values outside are left out.

    Give two tensors the same edges to lay one over the other.

    Raises:
        WorkbenchError: there is no bin, the edges are not finite and ascending, or a value is NaN or infinite.
    """
    if bins < 1 or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise WorkbenchError(f"a histogram needs at least one bin and ascending edges, not {bins} from {low} to {high}")
    check_finite(values, "the set of values")
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64, device=values.device)
    count = torch.histc(values.double(), bins=bins, min=low, max=high)  # float64 counts exactly where float32 stops
    return Histogram(edges[:-1], edges[1:], count.long())


def log10_histogram(scores: Real[Tensor, "*shape"], *, bins: int = 64, decades: float = 12.0) -> Histogram | None:
    """A histogram of log10 of the positive scores, None when there is none.

    It ends at the largest score and starts at the smallest, but at most `decades` below: a few scores next to zero
    would squeeze the rest into one bin. What is smaller than the first edge is counted in the first bin; zeros are left
    out.

    Raises:
        WorkbenchError: a score is negative, NaN or infinite, or `bins` and `decades` are not positive.
    """
    check_finite(scores, "the set of scores")
    if bool((scores < 0).any()) or not decades > 0:
        raise WorkbenchError("a histogram of logarithms needs scores that are not negative and a positive range")
    flat = scores.flatten()  # a mask of two axes would be turned into two columns of places
    positive = flat[flat > 0].double().log10_()
    if positive.numel() == 0:
        return None
    high = float(positive.max())
    low = max(float(positive.min()), high - decades)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return histogram(positive.clamp_(min=low, max=high), low=low, high=high, bins=bins)


def block_means(channels: Real[Tensor, " channel"], limit: int = 512) -> BlockMeans:
    """Channels as at most `limit` means over equal runs of neighbours, float64; the last run may be shorter.

    A mean and not a sample, so that no channel drops out of sight; a lone outlier shows at 1 / run of its height.

    Raises:
        WorkbenchError: there are no channels, or the limit is below 1.
    """
    count = channels.numel()
    if count == 0 or limit < 1:
        raise WorkbenchError(f"{count} channels cannot be drawn as at most {limit}")
    run = math.ceil(count / limit)
    parts = channels.double().split(run)
    start = torch.arange(0, count, run, device=channels.device)
    return BlockMeans(start, torch.stack([part.mean() for part in parts]))
