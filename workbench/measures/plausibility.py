"""Whether a map marks what people marked: scores against a span of units. Says nothing on what the model does."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Real
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.ordering import topk_mask


def plausibility(scores: Real[Tensor, " unit"], marked: Bool[Tensor, " unit"]) -> dict[str, float]:
    """`auprc`, `token_f1`, `iou` and `pointing` of a map, 0 to 1, high for one that marks the same units.

    The cut for `token_f1` and `iou` takes as many top units as are marked, so that precision, recall and F1 agree.

    Raises:
        WorkbenchError: nothing is marked, the sizes differ, or a score is NaN or infinite.
    """
    if scores.shape != marked.shape or not bool(marked.any()):
        raise WorkbenchError(f"{int(marked.sum())} of {marked.numel()} units are marked for {scores.numel()} scores")
    check_finite(scores, "the set of scores")
    count = int(marked.sum())
    hits = int((topk_mask(scores, count) & marked).sum())
    return {
        "auprc": average_precision(scores, marked),
        "token_f1": hits / count,
        "iou": hits / (2 * count - hits),
        "pointing": pointing(scores, marked),
    }


def pointing(scores: Real[Tensor, " unit"], marked: Bool[Tensor, " unit"]) -> float:
    """Whether the highest score is of a marked unit: 1 or 0; among equal highest ones the share that is marked."""
    return float(marked[scores == scores.max()].double().mean())


def average_precision(scores: Real[Tensor, " unit"], marked: Bool[Tensor, " unit"]) -> float:
    """Area under the precision-recall curve as the sum of precision times gain of recall.

    Units of equal score come in together, so that the order of the prompt does not count.
    """
    total, before = 0.0, 0
    for taken, hits in _cuts(scores, marked):
        total += hits / taken * (hits - before)
        before = hits
    return total / before


def _cuts(scores: Real[Tensor, " unit"], marked: Bool[Tensor, " unit"]) -> Iterator[tuple[int, int]]:
    """(units taken, marked ones among them) at each different score, the highest first."""
    levels, inverse = torch.unique(scores, return_inverse=True)
    counts = torch.zeros(len(levels), dtype=torch.int64).index_add(0, inverse, torch.ones_like(inverse)).flip(0)
    hits = torch.zeros(len(levels), dtype=torch.int64).index_add(0, inverse, marked.long()).flip(0)
    yield from zip(counts.cumsum(0).tolist(), hits.cumsum(0).tolist(), strict=True)
