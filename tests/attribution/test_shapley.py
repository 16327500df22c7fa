"""Shapley values, sampled and fitted, against brute force, closed forms and Captum's exact ones."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from attribution_models import IDS, LOGIT, explain
from captum.attr import ShapleyValues, ShapleyValueSampling

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import make_baseline
from workbench.attribution.kernel_shap import design, fit, size_weight
from workbench.attribution.shapley import sample_shapley
from workbench.registry import attribution

SHORT = IDS[:, :6]
ERASED = torch.tensor([[1, 2, 2, 2, 2, 2]])


def interacting(keep: torch.Tensor) -> torch.Tensor:
    """A game of eight players with pairs, a triple and a player that does nothing (the last)."""
    k = keep.double()
    return 2 * k[:, 0] - k[:, 1] + 3 * k[:, 2] * k[:, 3] - 2 * k[:, 0] * k[:, 4] + 4 * k[:, 4] * k[:, 5] * k[:, 6]


EXACT = torch.tensor([1.0, -1.0, 1.5, 1.5, -1.0 + 4 / 3, 4 / 3, 4 / 3, 0.0], dtype=torch.float64)
ENDS = (8 - 2.0, 0.0)


def by_all_orders(worth: dict[frozenset[int], float], players: int) -> np.ndarray:
    """The definition: what a player adds, over all orders."""
    total = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            total[player] += worth[before | {player}] - worth[before]
    return total / len(orders)


def test_the_fit_over_all_coalitions_is_exact() -> None:
    tried = design(8, 2**8, 0)
    assert tried.exact
    assert len(tried.keep) == len(tried.keep.unique(dim=0)) == 2**8 - 2
    torch.testing.assert_close(fit(tried, interacting(tried.keep), ENDS), EXACT, atol=1e-10, rtol=0)


@pytest.mark.parametrize("players", [5, 6])
def test_the_fit_equals_the_definition_on_a_random_game(players: int) -> None:
    worth = torch.randn(2**players, generator=torch.Generator().manual_seed(players), dtype=torch.float64)
    powers = 2.0 ** torch.arange(players, dtype=torch.float64)
    tried = design(players, 2**players, 0)
    ours = fit(tried, worth[(tried.keep @ powers).long()], (float(worth[-1]), float(worth[0])))
    table = {
        frozenset(player for player in range(players) if index >> player & 1): float(worth[index])
        for index in range(2**players)
    }
    np.testing.assert_allclose(ours.numpy(), by_all_orders(table, players), atol=1e-10)


def test_part_of_the_coalitions_gives_an_estimate_that_is_exact_without_interactions() -> None:
    effects = torch.arange(-9.0, 11.0, dtype=torch.float64)
    for samples in (0, 1, 50, 700):
        tried = design(20, samples, 0)
        assert not tried.exact
        assert len(tried.keep) <= samples + 40
        found = fit(tried, tried.keep @ effects + 3, (float(effects.sum()) + 3, 3.0))
        torch.testing.assert_close(found, effects, atol=1e-9, rtol=0)


def test_the_design_carries_the_weight_of_every_size() -> None:
    tried = design(20, 700, 0)
    sizes = tried.keep.sum(1)
    weight = [float(tried.weights[sizes == size].sum()) for size in range(1, 20)]
    assert sum(weight) == pytest.approx(sum(size_weight(20, size) for size in range(1, 20)))
    assert weight[0] == pytest.approx(size_weight(20, 1))
    assert weight[1] == pytest.approx(size_weight(20, 2))
    assert weight[7] == pytest.approx(size_weight(20, 8), rel=0.35)
    assert weight == weight[::-1]


def test_a_bigger_budget_gives_a_smaller_error() -> None:
    def error(samples: int) -> float:
        found = []
        for seed in range(20):
            tried = design(12, samples, seed)
            found.append(fit(tried, interacting(tried.keep[:, :8]), ENDS) - torch.cat([EXACT, torch.zeros(4).double()]))
        return float(torch.stack(found).square().mean().sqrt())

    assert error(1000) < 0.5 * error(120) < 0.5


def test_sampled_values_are_unbiased_with_an_honest_error() -> None:
    runs = [sample_shapley(interacting, 8, ENDS, 40, seed) for seed in range(60)]
    scores = torch.stack([run.scores for run in runs])
    claimed = torch.stack([run.error for run in runs]).square().mean(0).sqrt()
    torch.testing.assert_close(scores.sum(1), torch.full((60,), ENDS[0]).double())
    assert bool(((scores.mean(0) - EXACT).abs() <= 4 * claimed / 60**0.5 + 1e-12).all())
    noisy = claimed > 1e-9
    assert noisy.tolist() == [False, False, False, False, True, True, True, False]  # reverses undo pairs altogether
    ratio = (scores.std(0) / claimed)[noisy]
    assert bool(((ratio > 0.7) & (ratio < 1.4)).all())


def test_both_equal_captum_on_a_short_prompt(either: Adapter) -> None:
    def value(ids: torch.Tensor) -> torch.Tensor:
        return either.model(input_ids=ids).logits[:, -1, 40].detach()

    theirs = ShapleyValues(value).attribute(SHORT, baselines=ERASED, perturbations_per_eval=32)[0].double()
    kernel = attribution.get("kernel_shap")(either, SHORT, LOGIT, baseline="eos")
    torch.testing.assert_close(kernel.scores, theirs, atol=1e-4, rtol=1e-4)
    assert kernel.notes[-1] == "32 coalitions of 5 players: all coalitions were tried, so the scores are exact"
    torch.manual_seed(0)
    drawn = ShapleyValueSampling(value).attribute(SHORT, baselines=ERASED, n_samples=60)[0].double()
    sampled = attribution.get("shapley")(either, SHORT, LOGIT, baseline="eos", pairs=60)
    assert float((sampled.scores - theirs).abs().max()) <= float((drawn - theirs).abs().max()) + 1e-4
    assert float((sampled.scores - theirs).abs().max()) < 0.1 * float(theirs.abs().max())


@pytest.mark.parametrize("name", ["shapley", "kernel_shap"])
@pytest.mark.parametrize("unit", ["token", "sentence"])
def test_scores_add_up_whatever_was_drawn(name: str, unit: str, either: Adapter) -> None:
    few: dict[str, Any] = {"pairs": 1} if name == "shapley" else {"samples": 4}
    result = explain(name, either, unit=unit, **few)
    assert result.baseline_value is not None
    assert float(result.scores.sum()) == pytest.approx(result.value - result.baseline_value, abs=1e-4)
    assert result.completeness_gap == pytest.approx(0.0, abs=1e-4)
    if unit == "sentence":
        torch.testing.assert_close(result.scores[1:], result.scores[1:].mean().expand(7))


def test_a_quadratic_model_has_the_values_of_the_formula(toy: Adapter) -> None:
    """For F = h . s^2 the Shapley value of i is h . d_i (s + s'), as the integrated gradient; for F = h . s, h . d."""
    embeds, head = toy.embed(IDS)[0], toy.model.head.weight[40].detach()
    start = make_baseline(toy, IDS, toy.embed(IDS), "eos").embeds[0]
    mean = head if toy.model.config.power == 1 else head * (embeds.sum(0) + start.sum(0))
    expected = (embeds - start) @ mean
    torch.testing.assert_close(explain("kernel_shap", toy, baseline="eos").scores, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(explain("shapley", toy, baseline="eos", pairs=1).scores, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["shapley", "kernel_shap"])
def test_a_seed_gives_the_same_scores_and_another_gives_others(name: str, llama: Adapter) -> None:
    few: dict[str, Any] = {"pairs": 2} if name == "shapley" else {"samples": 20}
    first = explain(name, llama, seed=3, **few).scores
    again, other = (explain(name, llama, seed=seed, **few).scores for seed in (3, 4))
    torch.testing.assert_close(first, again, atol=1e-12, rtol=0)
    assert float((first - other).abs().max()) > 1e-4
