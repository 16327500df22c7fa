"""Values counted into bins and channels averaged into blocks: tensors made small enough for a table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import check_finite

AT_ONCE = 2**20
"""Values that are looked at together: float64 copies of a whole matrix would be twice as large as it."""


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
    pieces = values.flatten().split(AT_ONCE)
    for piece in pieces:
        check_finite(piece, "the set of values")
    return _count((piece.double() for piece in pieces), low, high, bins, values.device)


def _count(pieces: Iterable[Tensor], low: float, high: float, bins: int, device: torch.device) -> Histogram:
    """Counts over float64 pieces: they count exactly where float32 stops."""
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64, device=device)
    count = torch.zeros(bins, dtype=torch.float64, device=device)
    for piece in pieces:
        count += torch.histc(piece, bins=bins, min=low, max=high)
    return Histogram(edges[:-1], edges[1:], count.long())


def log10_histogram(scores: Real[Tensor, "*shape"], *, bins: int = 64, decades: float = 12.0) -> Histogram | None:
    """A histogram of log10 of the positive scores, None when there is none.

    It ends at the largest score and starts at the smallest, but at most `decades` below: a few scores next to zero
    would squeeze the rest into one bin. What is smaller than the first edge is counted in the first bin; zeros are left
    out.

    Raises:
        WorkbenchError: a score is negative, NaN or infinite, or `bins` and `decades` are not positive.
    """
    pieces = scores.flatten().split(AT_ONCE)
    for piece in pieces:
        check_finite(piece, "the set of scores")
    if any(bool((piece < 0).any()) for piece in pieces) or not decades > 0:
        raise WorkbenchError("a histogram of logarithms needs scores that are not negative and a positive range")
    ends = [float(end) for piece in pieces for end in _log_ends(piece)]
    if not ends:
        return None
    high = max(ends)
    low = max(min(ends), high - decades)
    if low == high:
        low, high = low - 0.5, high + 0.5
    logs = (piece[piece > 0].double().log10_().clamp_(min=low, max=high) for piece in pieces)
    return _count(logs, low, high, bins, scores.device)


def _log_ends(piece: Tensor) -> tuple[Tensor, ...]:
    """The smallest and the largest log10 of the positive ones; nothing where there is none."""
    logs = piece[piece > 0].double().log10_()
    return (logs.min(), logs.max()) if logs.numel() else ()


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
