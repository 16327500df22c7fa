"""LIFT, DIMAP, ModHiFi, utilized rank and KL: the identities of their papers, planted cases, closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.stats import entropy

import lowbit
from workbench.distributions import spread_histogram
from workbench.model.sites import SiteStatistics
from workbench.model.weightstats import WeightStatistics
from workbench.ordering import spearman, topk_mask
from workbench.salience import lift as lift_module
from workbench.salience.dimap import dimap
from workbench.salience.kl import _cells, kl
from workbench.salience.lift import lift, randomized
from workbench.salience.modhifi import modhifi, singleton_fidelity, subset_fidelity
from workbench.salience.utilized_rank import used_directions, utilized_rank

Maker = Callable[[torch.Tensor], SiteStatistics]


def planted(rows: int, columns: int, rank: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    leading = torch.randn(rows, rank, generator=generator) @ torch.randn(rank, columns, generator=generator)
    return leading, leading + noise * torch.randn(rows, columns, generator=generator)


def overlap(one: torch.Tensor, other: torch.Tensor, share: float = 0.05) -> float:
    k = int(share * one.numel())
    return float((topk_mask(one, k) & topk_mask(other, k)).sum()) / k


def test_l1_full_rank_is_the_absolute_weight(layer_s):
    assert torch.equal(lift(layer_s.weight, None, rank=256), layer_s.weight.abs())
    one_less = lift(layer_s.weight, None, rank=255)
    assert spearman(one_less, layer_s.weight.abs()) > 0.998


def test_l2_the_largest_weights_of_a_planted_low_rank_are_found():
    leading, weight = planted(128, 200, 4, 0.3)
    assert overlap(lift(weight, None, rank=4), leading.abs()) >= 0.95
    assert overlap(weight.abs(), leading.abs()) < overlap(lift(weight, None, rank=4), leading.abs())


def test_l3_randomized_and_exact_choose_the_same_weights(monkeypatch: pytest.MonkeyPatch):
    _, weight = planted(300, 400, 8, 0.5)
    exact = lift(weight, None, rank=8)
    monkeypatch.setattr(lift_module, "EXACT", 100)
    fast = lift(weight, None, rank=8)
    assert not torch.equal(fast, exact)
    assert overlap(fast, exact) >= 0.95
    assert torch.equal(lift(weight, None, rank=8), fast)
    assert torch.linalg.matrix_rank(randomized(weight, 8)) == 8


def test_lift_is_the_best_approximation_of_its_rank(layer_s):
    """Eckart and Young: what is kept is the energy of the leading singular values."""
    kept = lift(layer_s.weight, None, rank=20)
    values = torch.linalg.svdvals(layer_s.weight.double())
    energy = kept.double().square().sum().item()
    assert energy == pytest.approx(values[:20].square().sum().item(), rel=1e-5)


def test_dimap_by_hand_with_ties_in_their_order():
    weight = torch.tensor([[1.0, -2.0], [0.0, 1.0]])
    assert dimap(weight, None).tolist() == [[pytest.approx(1 / 5), 1], [0, pytest.approx(1 / 6)]]
    assert not dimap(torch.zeros(3, 4), None).any()


def test_dimap_ranks_like_magnitude_starts_at_one_and_knows_no_scale(layer_s):
    scores = dimap(layer_s.weight, None)
    assert scores.flatten()[layer_s.weight.abs().argmax()] == 1
    assert scores.max() == 1
    assert spearman(scores, layer_s.weight.abs()) > 1 - 1e-9
    torch.testing.assert_close(dimap(layer_s.weight * 64, None), scores)


def test_dimap_keeps_its_digits_over_many_weights():
    weight = torch.ones(1000, 1000)
    scores = dimap(weight, None).flatten()
    torch.testing.assert_close(scores, 1 / torch.arange(1, 10**6 + 1), rtol=1e-6, atol=0)


def test_m1_the_gram_form_is_the_direct_estimate(layer_s):
    scores = singleton_fidelity(layer_s.weight, layer_s.statistics)
    inputs, outputs = layer_s.inputs.double(), layer_s.inputs.double() @ layer_s.weight.double().T
    for row, column in ((0, 0), (7, 300), (200, 511)):
        part = inputs[:, column] * layer_s.weight[row, column].double()
        factor = (outputs[:, row] @ part) / (part @ part)
        left = (outputs[:, row] - factor * part).square().mean() / outputs[:, row].square().mean()
        assert scores[row, column].item() == pytest.approx(1 - left.item(), rel=1e-4, abs=1e-8)
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert scores.max().item() > 0.3
    torch.testing.assert_close(modhifi(layer_s.weight, layer_s.statistics), scores.mean(0).float())


def test_m2_channels_that_are_not_correlated_share_the_output(statistics_of: Maker):
    stats = statistics_of(torch.diag(torch.tensor([1.0, 3.0, 0.2, 5.0])))
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(singleton_fidelity(weight, stats).sum(1), torch.ones(6, dtype=torch.float64))
    assert modhifi(weight, stats).sum().item() == pytest.approx(1, rel=1e-6)


def test_m3_fidelity_never_falls_with_more_channels_and_all_of_them_are_enough(layer_s):
    order = torch.randperm(512, generator=torch.Generator().manual_seed(1))
    before = torch.zeros(256, dtype=torch.float64)
    for count in (1, 8, 64, 300, 512):
        found = subset_fidelity(layer_s.weight, layer_s.statistics, order[:count])
        assert (found >= before - 1e-6).all()
        before = found
    torch.testing.assert_close(before, torch.ones(256, dtype=torch.float64), rtol=0, atol=1e-4)
    alone = subset_fidelity(layer_s.weight, layer_s.statistics, order[:1])
    torch.testing.assert_close(alone, singleton_fidelity(layer_s.weight, layer_s.statistics)[:, order[0]])


def test_m3_a_subset_is_the_least_squares_fit(layer_s):
    kept = torch.tensor([3, 100, 101, 400])
    inputs, outputs = layer_s.inputs.double(), layer_s.inputs.double() @ layer_s.weight.double().T
    fit = inputs[:, kept] @ torch.linalg.lstsq(inputs[:, kept], outputs).solution
    expected = 1 - (outputs - fit).square().mean(0) / outputs.square().mean(0)
    found = subset_fidelity(layer_s.weight, layer_s.statistics, kept)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 5, 19])
def test_a_planted_input_space_is_found_and_enough(rank: int, statistics_of: Maker):
    generator = torch.Generator().manual_seed(rank)
    inputs = torch.randn(400, rank, generator=generator) @ torch.randn(rank, 40, generator=generator)
    weight = torch.randn(24, 40, generator=generator)
    stats = statistics_of(inputs)
    source, target = used_directions(weight, stats, 1.0)
    assert source.shape[1] == target.shape[1] == rank
    assert utilized_rank(weight, stats, energy=1.0).item() == pytest.approx(rank / 24)
    wide = weight.double()
    reduced = target @ target.T @ wide @ source @ source.T
    assert ((wide - reduced) @ inputs.double().T).abs().max() < 1e-5 * (wide @ inputs.double().T).abs().max()


def test_utilized_rank_grows_with_the_energy_and_is_whole_for_inputs_of_full_rank(layer_s):
    shares = [utilized_rank(layer_s.weight, layer_s.statistics, energy=e).item() for e in (0.5, 0.9, 0.99, 1.0)]
    assert shares == sorted(shares)
    assert shares[0] < shares[2]
    assert shares[-1] == 1


def test_a_constant_input_is_a_direction(statistics_of: Maker):
    stats = statistics_of(torch.ones(50, 8))
    assert utilized_rank(torch.eye(8), stats).item() == pytest.approx(1 / 8)


def divergence(weight: torch.Tensor, bits: int) -> float:
    packed = lowbit.quantize(weight, bits=bits, group_size=64)
    return kl(weight, WeightStatistics(quantized=lowbit.dequantize(packed, dtype=torch.float32))).item()


def test_kl_falls_with_the_bits_and_is_next_to_nothing_at_eight(layer_s):
    found = [divergence(layer_s.weight, bits) for bits in (1, 2, 3, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.01
    assert found[1] > 0.02


def test_kl_sees_the_distribution_and_not_the_place(layer_s):
    """Weights put anywhere else inside the matrix do not show, which is why this is no error of a layer."""
    packed = lowbit.dequantize(lowbit.quantize(layer_s.weight, bits=3, group_size=64), dtype=torch.float32)
    shuffled = layer_s.weight.flatten()[torch.randperm(layer_s.weight.numel())].reshape(layer_s.weight.shape)
    assert kl(shuffled, WeightStatistics(quantized=packed)) == kl(layer_s.weight, WeightStatistics(quantized=packed))


def test_kl_of_histograms_that_were_made_by_hand():
    """Two levels, -1 and 1, with cells from -2 to 0 and 0 to 2, against weights that are counted by hand."""
    weight = torch.tensor([[-1.75, -1.25, -0.25, 0.75]]).repeat(128, 16)
    quantized = torch.tensor([[-1.0, -1.0, -1.0, 1.0]]).repeat(128, 16)
    full = torch.tensor([0.25, 0.25, 0, 0.25, 0, 0.25, 0, 0])  # bins of 7/16, from -1.75 to 1.75
    low, high = _cells(quantized.double(), 64, 1.0)
    edges = torch.linspace(-1.75, 1.75, 9, dtype=torch.float64)
    spread = spread_histogram(low, high, edges)
    left, right = 0.75, 0.25
    expected = torch.tensor([left * (0.4375 + 0.25) / 2] + [left * 0.4375 / 2] * 3 + [right * 0.4375 / 2] * 4)
    expected[-1] += right * 0.25 / 2
    torch.testing.assert_close(spread, expected.double())
    seen = full > 0
    value = kl(weight, WeightStatistics(quantized=quantized), bins=8).item()
    assert value == pytest.approx(float(entropy(full[seen].numpy(), None) * -1 - _cross(full, expected)), rel=1e-5)


def _cross(full: torch.Tensor, spread: torch.Tensor) -> float:
    seen = full > 0
    return float((full[seen] * spread[seen].log()).sum())


def test_kl_of_a_group_with_a_single_level_is_finite():
    weight = torch.rand(16, 64, generator=torch.Generator().manual_seed(0))
    flat = torch.full_like(weight, 0.5)
    value = kl(weight, WeightStatistics(quantized=flat))
    assert torch.isfinite(value)
    assert value > 1
