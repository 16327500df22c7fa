"""How alike two maps of the same tokens are, and how concentrated one is. Rank correlation is in `ranking`."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float64, Real
from scipy import stats
from torch import Tensor

from workbench.linalg import check_finite
from workbench.ordering import topk_mask


def kendall(first: Real[Tensor, " unit"], second: Real[Tensor, " unit"]) -> float:
    """Kendall's rank correlation (tau-b, for ties); NaN where either side is constant or there are fewer than two."""
    if first.numel() < 2:
        return math.nan
    found: Any = stats.kendalltau(first.double().numpy(), second.double().numpy())  # typed as a plain tuple
    return float(found.statistic)


def share_map(scores: Real[Tensor, " unit"]) -> Float64[Tensor, " unit"]:
    """Sizes of the scores as shares of their sum; all zero stays so.

    Raises:
        WorkbenchError: a score is NaN or infinite.
    """
    check_finite(scores, "the set of scores")
    sizes = scores.double().abs()
    total = sizes.sum()
    return sizes / total if total > 0 else sizes


def aiou(first: Real[Tensor, " unit"], second: Real[Tensor, " unit"]) -> float:
    """Soft intersection over union of the sizes of two maps, each made to sum to 1: 1 for the same, 0 for disjoint.

    With TV half of their L1 distance it is (1 - TV) / (1 + TV). Signs are lost; NaN when a map is all zero.
    """
    one, other = share_map(first), share_map(second)
    if not (one.any() and other.any()):
        return math.nan
    return float(torch.minimum(one, other).sum() / torch.maximum(one, other).sum())


def l1_distance(first: Real[Tensor, " unit"], second: Real[Tensor, " unit"]) -> float:
    """Sum of differences of two maps with their signs, each divided by the sum of its sizes: 0 to 2."""
    sides = [side.double() / max(float(side.double().abs().sum()), 1e-300) for side in (first, second)]
    return float((sides[0] - sides[1]).abs().sum())


def top_k_overlap(first: Real[Tensor, " unit"], second: Real[Tensor, " unit"], k: int) -> float:
    """Part of the k largest sizes that two maps have in common, of as many as there are when they are fewer."""
    count = min(k, first.numel())
    masks = [topk_mask(side.double().abs(), count) for side in (first, second)]
    return int((masks[0] & masks[1]).sum()) / count


def sign_flips_among_top(first: Real[Tensor, " unit"], second: Real[Tensor, " unit"], k: int) -> int:
    """How many of the k largest sizes of the first map have the opposite sign in the second; zero is no flip."""
    top = topk_mask(first.double().abs(), min(k, first.numel()))
    return int(((first.sign() * second.sign() < 0) & top).sum())


def centre_shift(first: Real[Tensor, " unit"], second: Real[Tensor, " unit"]) -> float:
    """By how many positions the centre of mass of the sizes moves to the right; NaN when a map is all zero."""
    one, other = share_map(first), share_map(second)
    if not (one.any() and other.any()):
        return math.nan
    return float((other - one) @ torch.arange(one.numel(), dtype=torch.float64))


def entropy(scores: Real[Tensor, " unit"]) -> float:
    """Entropy of the sizes as shares, nats: 0 when one unit holds all, log n when all are equal; NaN for all zero."""
    shares = share_map(scores)
    return float(torch.special.entr(shares).sum()) if shares.any() else math.nan
