"""Agreement of two lists of scores, against SciPy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from workbench.ui import compare


@pytest.mark.parametrize("seed", range(5))
def test_rank_agreement_is_spearmans(seed: int) -> None:
    noise = np.random.default_rng(seed)
    first, second = noise.integers(-4, 5, size=(2, 30)).astype(float).tolist()  # small integers: many ties
    assert compare.rank_agreement(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_lists_without_an_order_have_no_agreement() -> None:
    assert compare.rank_agreement([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert compare.rank_agreement([1.0], [2.0]) is None


def test_the_same_and_the_opposite_order() -> None:
    assert compare.rank_agreement([1.0, 2.0, 5.0], [10.0, 20.0, 21.0]) == pytest.approx(1)
    assert compare.rank_agreement([1.0, 2.0, 5.0], [3.0, 2.0, -1.0]) == pytest.approx(-1)


def test_overlap_counts_strength_whatever_the_sign() -> None:
    assert compare.top_overlap([5.0, -4.0, 0.1, 0.2], [-6.0, 0.0, 0.1, 9.0], 2) == 1


def test_sign_flips() -> None:
    assert compare.sign_flips([1.0, -1.0, 0.0, 2.0], [-1.0, -2.0, 3.0, 2.0]) == 1


@pytest.mark.parametrize(
    ("correlation", "words"),
    [
        (1.0, "nearly"),
        (0.9, "much the same"),
        (0.6, "similar"),
        (0.1, "different"),
        (-1.0, "different"),
        (None, "cannot"),
    ],
)
def test_agreement_in_words(correlation: float | None, words: str) -> None:
    assert words in compare.agreement_words(correlation)
