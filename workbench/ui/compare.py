"""Two lists of scores for the same tokens: do they tell the same story? No Streamlit, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def rank_agreement(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None when either list has no order.

    Raises:
        ValueError: lists of different length.
    """
    pair = pd.DataFrame({"first": list(first), "second": list(second)}).dropna()
    ranks = pair.rank().to_numpy(dtype=float)
    if len(ranks) < 2 or (ranks == ranks[0]).all(axis=0).any():
        return None
    return float(np.corrcoef(ranks, rowvar=False)[0, 1])


def top_overlap(first: Sequence[float], second: Sequence[float], count: int) -> int:
    """How many of the `count` tokens with the largest magnitude are the same in both lists."""
    leading = [set(pd.Series(list(scores)).abs().nlargest(count).index) for scores in (first, second)]
    return len(leading[0] & leading[1])


def sign_flips(first: Sequence[float], second: Sequence[float]) -> int:
    """How many tokens push one way in the first list and the other way in the second."""
    return sum(one * other < 0 for one, other in zip(first, second, strict=True))


def agreement_words(correlation: float | None) -> str:
    """A rank correlation in words; the bounds are a rule of thumb and are printed beside it."""
    if correlation is None:
        return "cannot be told (all scores are equal)"
    for bound, words in ((0.95, "nearly the same order"), (0.8, "much the same order"), (0.5, "a similar order")):
        if correlation >= bound:
            return words
    return "a different order"
