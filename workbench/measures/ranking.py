"""How far several rankings of the same things agree: rank correlation and overlap of the tops, all pairs at once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor

from workbench.ordering import ranks, topk_mask


def rank_correlations(scores: Real[Tensor, "metric thing"]) -> Float[Tensor, "metric metric"]:
    """Spearman's correlation of every pair, ties by mean rank, float64; NaN where a side is constant."""
    centred = torch.stack([ranks(row) for row in scores]) - (scores.shape[1] + 1) / 2
    norms = centred.norm(dim=1)
    return (centred @ centred.T) / (norms[:, None] * norms[None, :])


def top_overlaps(scores: Real[Tensor, "metric thing"], share: float) -> Float[Tensor, "metric metric"]:
    """Part of the top `share` that each pair has in common, 0 to 1; chance gives `share`."""
    count = max(1, round(share * scores.shape[1]))
    masks = torch.stack([topk_mask(row, count) for row in scores]).double()
    return masks @ masks.T / count
