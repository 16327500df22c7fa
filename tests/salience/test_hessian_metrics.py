"""The four metrics that papers call the Hessian one: their identities, how they differ, and how they fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from workbench import inverse_factor
from workbench.linalg import DampingRaised, damped_hessian, inverse_cholesky
from workbench.model.sites import SiteStatistics
from workbench.ordering import spearman, topk_mask
from workbench.registry import salience

Maker = Callable[[torch.Tensor], SiteStatistics]


def scores_of(layer, name: str, **options: float) -> torch.Tensor:
    return salience.get(name)(layer.weight, layer.statistics, **options).double()


def test_h1_chol2_is_obs_among_the_columns_that_follow(layer_s):
    hessian = damped_hessian(layer_s.statistics.gram, 0.01)
    chol2 = scores_of(layer_s, "chol2")
    for column in (0, 150, 400, 511):
        remaining = torch.linalg.inv(hessian[column:, column:])[0, 0]
        expected = layer_s.weight[:, column].double().square() / remaining
        torch.testing.assert_close(chol2[:, column], expected, rtol=1e-5, atol=0)


def test_obs_and_hinv2_are_their_formulas_on_a_dense_inverse(layer_s):
    inverse = torch.linalg.inv(damped_hessian(layer_s.statistics.gram, 0.05))
    square = layer_s.weight.double().square()
    obs, hinv2 = (scores_of(layer_s, name, damping=0.05) for name in ("obs", "hinv2"))
    torch.testing.assert_close(obs, square / inverse.diagonal(), rtol=1e-5, atol=0)
    torch.testing.assert_close(hinv2, square / inverse.diagonal().square(), rtol=1e-5, atol=0)


def test_h2_for_a_diagonal_hessian_they_differ_only_by_its_powers(statistics_of: Maker):
    inputs = torch.diag(torch.tensor([1.0, 2.0, 0.5, 7.0]))
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    stats = statistics_of(inputs)
    assert stats.gram is not None
    curvature = damped_hessian(stats.gram, 0.01).diagonal().float()
    for name, power in (("chol2", 1), ("obs", 1), ("hinv2", 2)):
        expected = weight.square() * curvature**power
        torch.testing.assert_close(salience.get(name)(weight, stats), expected, rtol=1e-5, atol=0)


def test_h3_obs_is_twice_the_least_error_of_removing_a_weight(layer_s):
    """The minimum of 1/2 d'Hd under d_j = -w_j, from the KKT system of that problem, undamped, in float64."""
    hessian = damped_hessian(layer_s.statistics.gram, 0.0)
    obs, obd = scores_of(layer_s, "obs", damping=0.0), scores_of(layer_s, "obd")
    size = len(hessian)
    for row, column in ((0, 0), (5, 123), (200, 500)):
        system = torch.zeros(size + 1, size + 1, dtype=torch.float64)
        system[:size, :size] = hessian
        system[size, column] = system[column, size] = 1
        right = torch.zeros(size + 1, dtype=torch.float64)
        right[size] = -layer_s.weight[row, column].double()
        change = torch.linalg.solve(system, right)[:size]
        least = float(0.5 * change @ hessian @ change)
        assert float(obs[row, column]) / 2 == pytest.approx(least, rel=1e-5)
        assert least < float(obd[row, column]) / 2


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    k = first.numel() // 10
    return float((topk_mask(first, k) & topk_mask(second, k)).sum()) / k


@pytest.mark.parametrize(
    ("first", "second", "correlation", "shared"),
    [
        ("chol2", "hinv2", 0.954, 0.775),
        ("chol2", "obs", 0.993, 0.905),
        ("hinv2", "obd", 0.976, 0.812),
        ("magnitude", "hinv2", 0.684, 0.286),
    ],
)
def test_how_alike_they_are_on_layer_s(layer_s, first: str, second: str, correlation: float, shared: float):
    """The design's figures; other seeds move the overlaps by 0.03, in case torch draws anew."""
    one, other = scores_of(layer_s, first), scores_of(layer_s, second)
    assert spearman(one, other) == pytest.approx(correlation, abs=0.01)
    assert overlap(one, other) == pytest.approx(shared, abs=0.04)


def test_raised_damping_is_said_and_the_usual_one_is_silent(statistics_of: Maker, recwarn: pytest.WarningsRecorder):
    generator = torch.Generator().manual_seed(0)
    stats = statistics_of(torch.randn(6, 24, generator=generator))
    weight = torch.randn(3, 24, generator=generator)
    for name in ("obs", "hinv2", "chol2"):
        with pytest.warns(DampingRaised, match="damping 0 was too small"):
            salience.get(name)(weight, stats, damping=0.0)
        recwarn.clear()
        salience.get(name)(weight, stats)
        assert not [warning for warning in recwarn if warning.category is DampingRaised]


def test_a_site_is_factored_once_for_all_its_matrices(layer_s, monkeypatch: pytest.MonkeyPatch):
    made = []
    count = lambda *given: made.append(given) or inverse_cholesky(*given)  # noqa: E731
    monkeypatch.setattr(inverse_factor, "inverse_cholesky", count)
    site = replace(layer_s.statistics, gram=layer_s.statistics.gram.clone())
    for name in ("obs", "hinv2", "chol2"):
        salience.get(name)(layer_s.weight[:8], site, damping=0.02)
    assert len(made) == 1
    again = salience.get("obs")(layer_s.weight, site, damping=0.03).double()
    assert len(made) == 2
    torch.testing.assert_close(again, scores_of(layer_s, "obs", damping=0.03), rtol=0, atol=0)


def test_strong_damping_makes_obs_forget_the_activations(layer_s):
    """At damping 1 the Hessian's diagonal is nearly level for all but the outlier channels, so weights decide more."""
    magnitude = scores_of(layer_s, "magnitude")
    weak, strong = (spearman(scores_of(layer_s, "obs", damping=damping), magnitude) for damping in (1e-4, 1.0))
    assert strong > weak + 0.1
