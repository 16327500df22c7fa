"""Sobol indices against analytic functions and scipy's estimator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from attribution_models import IDS, explain
from scipy.stats import qmc
from scipy.stats import sobol_indices as scipy_indices

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import make_baseline
from workbench.attribution.sobol import Indices, sobol_indices


def check(found: Indices, first: list[float], total: list[float], within: float) -> None:
    torch.testing.assert_close(found.first, torch.tensor(first).double(), atol=within, rtol=0)
    torch.testing.assert_close(found.total, torch.tensor(total).double(), atol=within, rtol=0)


def test_the_indices_of_a_sum_are_the_shares_of_its_squares() -> None:
    slopes = torch.tensor([1.0, 2.0, -3.0, 0.5, 0.0], dtype=torch.float64)
    shares = (slopes**2 / (slopes**2).sum()).tolist()
    found = sobol_indices(lambda points: points @ slopes, 5, 1024, 0)
    check(found, shares, shares, 0.05 * max(shares))
    assert found.total[2] == pytest.approx(shares[2], rel=0.05)
    assert found.variance == pytest.approx(float((slopes**2).sum()) / 12, rel=0.05)
    assert found.evaluations == 1024 * 7


def test_a_centred_product_is_all_interaction() -> None:
    found = sobol_indices(lambda points: (points[:, 0] - 0.5) * (points[:, 1] - 0.5), 3, 1024, 0)
    check(found, [0.0, 0.0, 0.0], [1.0, 1.0, 0.0], 0.05)


def test_the_ishigami_function() -> None:
    """Known in closed form: Ishigami and Homma 1990, with a = 7 and b = 0.1."""

    def ishigami(points: torch.Tensor) -> torch.Tensor:
        x = (2 * points - 1) * math.pi
        return x[:, 0].sin() + 7 * x[:, 1].sin() ** 2 + 0.1 * x[:, 2] ** 4 * x[:, 0].sin()

    check(sobol_indices(ishigami, 3, 2048, 0), [0.3139, 0.4424, 0.0], [0.5576, 0.4424, 0.2437], 0.05 * 0.5576)


def test_the_estimator_is_that_of_scipy() -> None:
    def function(points: np.ndarray) -> np.ndarray:
        return points[:, 0] + points[:, 1] * points[:, 2] ** 2 + np.sin(5 * points[:, 3])

    points = qmc.Sobol(8, scramble=True, rng=11).random_base2(7)
    one, other = points[:, :4], points[:, 4:]
    swapped = np.stack([function(np.where(np.arange(4) == i, other, one)) for i in range(4)])
    arrays = {"f_A": function(one)[None], "f_B": function(other)[None], "f_AB": swapped[:, None]}
    theirs = scipy_indices(func=arrays, n=128)
    ours = sobol_indices(lambda rows: torch.from_numpy(function(rows.numpy())), 4, 100, 11)  # 100 is rounded up to 128
    np.testing.assert_allclose(ours.total.numpy(), np.ravel(theirs.total_order), atol=1e-12)
    np.testing.assert_allclose(ours.first.numpy(), np.ravel(theirs.first_order), atol=0.02)  # it centres the values


@pytest.mark.parametrize("toy", [1], indirect=True, ids=["linear"])
@pytest.mark.parametrize("mask", ["hard", "soft"])
def test_a_linear_model_has_the_shares_of_its_terms(mask: str, toy: Adapter) -> None:
    step = (toy.embed(IDS) - make_baseline(toy, IDS, toy.embed(IDS), "eos").embeds)[0]
    effects = (step @ toy.model.head.weight[40].detach()) ** 2
    result = explain("sobol", toy, baseline="eos", samples=1024, mask=mask)
    torch.testing.assert_close(result.scores, effects / effects.sum(), atol=0.05 * float(effects.max()), rtol=0)
    assert f"{1024 * 9} prompts were evaluated" in result.notes[-3]


def test_units_share_their_index_and_seeds_repeat(llama: Adapter) -> None:
    assert explain("sobol", llama, unit="sentence").scores.tolist() == pytest.approx([0.0] + [1.0] * 7, abs=0.1)
    first = explain("sobol", llama, samples=8, seed=1).scores
    assert torch.equal(first, explain("sobol", llama, samples=8, seed=1).scores)
    assert not torch.equal(first, explain("sobol", llama, samples=8, seed=2).scores)
