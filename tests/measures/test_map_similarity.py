"""Likeness of maps and plausibility, by hand, against closed forms and against loops."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.measures import map_similarity as alike
from workbench.measures.plausibility import average_precision, plausibility, pointing


def draw(seed: int, size: int = 12) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_aiou_has_its_closed_form() -> None:
    one, other = draw(0), draw(1)
    shares = [side.abs() / side.abs().sum() for side in (one, other)]
    variation = float((shares[0] - shares[1]).abs().sum() / 2)
    assert alike.aiou(one, other) == pytest.approx((1 - variation) / (1 + variation))
    assert alike.aiou(one, other) == pytest.approx(alike.aiou(other, one))
    assert alike.aiou(one, -7 * one) == pytest.approx(1)
    assert alike.aiou(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])) == 0
    assert math.isnan(alike.aiou(one, torch.zeros(12)))


def test_kendall_counts_pairs() -> None:
    one, other = draw(2), draw(3)
    signs = [float((one[i] - one[j]).sign() * (other[i] - other[j]).sign()) for i, j in combinations(range(12), 2)]
    assert alike.kendall(one, other) == pytest.approx(sum(signs) / len(signs))
    assert math.isnan(alike.kendall(one[:1], other[:1]))


def test_tops_and_their_signs() -> None:
    one, other = torch.tensor([5.0, -4.0, 3.0, 0.1]), torch.tensor([-5.0, -4.0, 0.0, 6.0])
    assert alike.top_k_overlap(one, other, 2) == 0.5
    assert alike.top_k_overlap(one, other, 9) == 1
    assert alike.sign_flips_among_top(one, other, 3) == 1  # the third went to zero, which is no flip
    assert alike.sign_flips_among_top(one, one, 4) == 0


def test_distances() -> None:
    left, right = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, -3.0])
    assert alike.l1_distance(left, right) == alike.l1_distance(left, -left) == pytest.approx(2)
    assert alike.l1_distance(left, 9 * left) == pytest.approx(0)
    assert alike.centre_shift(left, right) == pytest.approx(3)
    assert alike.entropy(left) == 0
    assert alike.entropy(torch.tensor([2.0, -2.0, 2.0])) == pytest.approx(math.log(3))
    assert math.isnan(alike.entropy(torch.zeros(3)))


def test_plausibility_of_perfect_wrong_and_equal_scores() -> None:
    marked = torch.tensor([False, True, True, False, False])
    perfect = plausibility(marked.double(), marked)
    assert perfect == {"auprc": 1, "token_f1": 1, "iou": 1, "pointing": 1}
    wrong = plausibility(-marked.double(), marked)
    assert (wrong["token_f1"], wrong["pointing"]) == (0, 0)
    assert wrong["auprc"] == pytest.approx(2 / 5)
    assert plausibility(torch.ones(5), marked)["auprc"] == pytest.approx(2 / 5)
    assert pointing(torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]), marked) == 0.5
    half = plausibility(torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0]), marked)
    assert (half["token_f1"], half["iou"]) == (0.5, pytest.approx(1 / 3))
    assert half["auprc"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    with pytest.raises(WorkbenchError, match="0 of 5 units are marked"):
        plausibility(torch.ones(5), torch.zeros(5, dtype=torch.bool))


def test_random_scores_reach_the_share_that_is_marked() -> None:
    marked = torch.arange(200) < 50
    found = [average_precision(draw(seed, 200), marked) for seed in range(200)]
    assert sum(found) / len(found) == pytest.approx(0.25, abs=0.03)
