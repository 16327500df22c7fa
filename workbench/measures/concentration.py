"""How unevenly salience is spread over the weights of a matrix (its Gini coefficient is in `workbench.linalg`)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Real
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.ordering import ascending


class Coverage(NamedTuple):
    """Points of a curve from (0, 0) to (1, 1): the most salient `weight_share` holds `salience_share` of the total."""

    weight_share: Float[Tensor, " point"]
    salience_share: Float[Tensor, " point"]


def _descending_sums(scores: Real[Tensor, "*shape"]) -> Float[Tensor, " upto"]:
    """Sums of the 0, 1, 2, ... largest scores, float64, the last one being the total."""
    check_finite(scores, "the set of scores")
    if scores.numel() == 0 or bool((scores < 0).any()):
        raise WorkbenchError("a share of salience needs at least one score and none below zero; take absolute values")
    ordered = ascending(scores)
    sums = torch.zeros(len(ordered) + 1, dtype=torch.float64, device=ordered.device)
    sums[1:] = ordered.flip(0)
    return sums.cumsum_(0)  # in place: a large matrix's scores are as large as itself


def top_share(scores: Real[Tensor, "*shape"], share: float = 0.01) -> float:
    """Share of the total that the largest `share` of the scores holds, at least one score; NaN when the total is zero.

    The count is rounded up, as in choosing weights to protect. Equal scores give `share` itself, up to that rounding.

    Raises:
        WorkbenchError: the share is not in 0..1, or the scores are empty, negative, NaN or infinite.
    """
    if not 0 <= share <= 1:
        raise WorkbenchError(f"the share of weights has value {share}; it must lie between 0 and 1")
    sums = _descending_sums(scores)
    count = max(1, math.ceil(share * scores.numel() - 1e-9))
    return float(sums[count] / sums[-1]) if sums[-1] > 0 else math.nan


def coverage(scores: Real[Tensor, "*shape"], points: int = 65) -> Coverage:
    """The concentration curve, largest scores first, at evenly spaced shares of the weights (Lorenz's curve, mirrored).

    With fewer scores than points there is a point for each. All zero counts as evenly spread.

    Raises:
        WorkbenchError: fewer than two points, or the scores are empty, negative, NaN or infinite.
    """
    if points < 2:
        raise WorkbenchError(f"a curve needs at least 2 points, not {points}")
    sums = _descending_sums(scores)
    steps = min(points, len(sums))
    places = torch.linspace(0, len(sums) - 1, steps, dtype=torch.float64, device=sums.device).round()
    shares = places / (len(sums) - 1)
    return Coverage(shares, sums[places.long()] / sums[-1] if sums[-1] > 0 else shares.clone())
