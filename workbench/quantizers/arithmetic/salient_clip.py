"""The range of a group's grid by search: SliM-LLM's salience-weighted calibration (arXiv 2405.14917).

For each row the share tau of the range that makes sum_j v_j |q_j - w_j|^2.4 least, with v = `salience_weight` where a
weight is salient and 1 elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.quantizers.arithmetic.levels import AffineLevels, check_scale

Shares = Literal["released", "wide"]

EXPONENT = 2.4
"""Power of an error in the sum, that of the released code."""

CHUNK = 2**17
"""Weights that are looked at together, so that they stay in a core's cache."""


@dataclass(frozen=True)
class ClipSearch:
    """How ranges are searched.

    Attributes:
        shares: what is tried, the whole range first; the first of equals is taken.
        threshold: standard deviations above the mean salience of the group from which a weight is salient.
        salience_weight: how much a salient weight's error counts; at 1 salience plays no part.
        symmetric: the grid lies evenly around zero.
    """

    shares: tuple[float, ...]
    threshold: float
    salience_weight: float
    symmetric: bool

    def fit(
        self, columns: Float[Tensor, "columns out"], salience: Float[Tensor, "columns out"], bits: int
    ) -> AffineLevels:
        """The best levels of a group.

        Raises:
            WorkbenchError: the scale of some row is beyond fp16.
        """
        counts = torch.where(standouts(salience, self.threshold), self.salience_weight, 1.0)
        low, high = columns.amin(0).clamp_(max=0), columns.amax(0).clamp_(min=0)
        step = max(1, CHUNK // len(columns))
        chunks = zip(*(part.split(step, dim=-1) for part in (columns, counts, low, high)), strict=True)
        share = torch.cat([self._best(*chunk, bits=bits) for chunk in chunks])
        levels = AffineLevels.between(low * share, high * share, bits, self.symmetric)
        check_scale(levels.scale)
        return levels

    def _best(
        self,
        columns: Float[Tensor, "columns out"],
        counts: Float[Tensor, "columns out"],
        low: Float[Tensor, " out"],
        high: Float[Tensor, " out"],
        *,
        bits: int,
    ) -> Float[Tensor, " out"]:
        """The share of the least error in each row; a share whose scale is beyond fp16 has none."""
        columns, lost = columns.contiguous(), torch.empty(columns.shape, device=columns.device)
        least, best = torch.full_like(low, torch.inf), torch.ones_like(low)
        for share in self.shares:
            levels = AffineLevels.between(low * share, high * share, bits, self.symmetric)
            levels.round(columns, torch.empty_like(lost), lost)
            error = lost.abs_().pow_(EXPONENT).mul_(counts).sum(0)
            better = error < least
            best.masked_fill_(better, share)
            torch.where(better, error, least, out=least)
        return best


def standouts(scores: Float[Tensor, "columns out"], threshold: float) -> Bool[Tensor, "columns out"]:
    """Scores more than that many standard deviations above the mean of all; none where all are alike."""
    return scores > scores.mean() + threshold * scores.std(correction=0)


def shares_of(kind: Shares) -> tuple[float, ...]:
    """The shares that are tried: 101 from 0.9 to 1.1 (the released code), or 61 from 0.5 to 1.1 (ours)."""
    if kind == "released":
        return _outward([1 + step / 500 for step in range(51)], [1 - step / 500 for step in range(51)])
    return _outward([1 + step / 100 for step in range(11)], [1 - step / 100 for step in range(51)])


def _outward(up: Sequence[float], down: Sequence[float]) -> tuple[float, ...]:
    """1 and then away from it, upwards first."""
    return (*up, *down[1:])
