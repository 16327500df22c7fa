"""One-dimensional k-means: the optimum against all partitions there are, Lloyd against what it starts from."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch

from workbench.quantizers.arithmetic import clustering
from workbench.quantizers.arithmetic.clustering import cluster, lloyd, nearest_codes, optimum, sort_rows


def objective(values: torch.Tensor, weights: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """sum of weight * squared distance to the nearest centroid, by trying every centroid, float64."""
    distance = (values.double().unsqueeze(2) - centroids.double().unsqueeze(1)).square().amin(2)
    return (weights.double() * distance).sum(1)


def least_of_all_partitions(values: list[float], weights: list[float], k: int) -> float:
    """Every way to cut the sorted values into at most k runs."""
    pairs = sorted(zip(values, weights, strict=True))
    n, best = len(pairs), float("inf")
    for cuts in combinations(range(1, n), min(k, n) - 1):
        total = 0.0
        for first, final in pairwise((0, *cuts, n)):
            mass = sum(weight for _, weight in pairs[first:final])
            mean = sum(weight * value for value, weight in pairs[first:final]) / mass if mass else 0.0
            total += sum(weight * (value - mean) ** 2 for value, weight in pairs[first:final])
        best = min(best, total)
    return best


def problem(rows: int, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Heavy tails, ties, weights over some orders of magnitude and some of them zero."""
    make = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, n, generator=make) / torch.rand(rows, n, generator=make).clamp_min(0.1)
    values[:, ::5] = values[:, :1].clone()
    weights = torch.randn(rows, n, generator=make).mul(2).exp()
    weights[:, 1::4] = 0
    return values, weights


@pytest.mark.parametrize("k", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("n", [1, 2, 5, 9, 12])
def test_no_partition_is_better_than_the_optimum(n: int, k: int):
    values, weights = problem(6, n, seed=n)
    values = values.double()
    found = objective(values, weights, optimum(sort_rows(values, weights), k))
    best = [least_of_all_partitions(v, w, k) for v, w in zip(values.tolist(), weights.tolist(), strict=True)]
    torch.testing.assert_close(found, torch.tensor(best, dtype=torch.float64), rtol=1e-9, atol=1e-11)


def test_the_optimum_of_long_rows_is_that_of_the_plain_dynamic_programme():
    values, weights = problem(3, 250, seed=1)
    values, k = values.double(), 7
    rows = sort_rows(values, weights)
    place = torch.arange(251)
    mass, moment, energy = (part.unsqueeze(1) - part.unsqueeze(2) for part in (rows.mass, rows.moment, rows.energy))
    run = (energy - moment.square() / mass.clamp_min(1e-300)).masked_fill(place.unsqueeze(1) > place, torch.inf)
    least = run[:, 0]
    for _ in range(k - 1):
        least = (least.unsqueeze(2) + run).amin(1)
    found = objective(values, weights, optimum(rows, k)) / weights.double().mean(1)
    torch.testing.assert_close(found, least[:, -1], rtol=1e-9, atol=0)


@pytest.mark.parametrize("k", [2, 4, 16])
def test_the_optimum_beats_lloyd_and_lloyd_what_it_starts_from(k: int):
    values, weights = problem(40, 300, seed=k)
    low, high = values.aminmax(dim=1, keepdim=True)
    start = low + (high - low) * torch.linspace(0, 1, k)
    errors = [
        objective(values, weights, centroids)
        for centroids in (cluster(values, weights, start, "exact"), cluster(values, weights, start, "lloyd"), start)
    ]
    assert bool((errors[0] <= errors[1] * (1 + 1e-9)).all())
    assert bool((errors[1] <= errors[2] * (1 + 1e-9)).all())
    assert float(errors[0].sum()) < 0.9 * float(errors[1].sum())
    assert float(errors[1].sum()) < 0.9 * float(errors[2].sum())


def test_a_step_of_lloyd_by_hand():
    """From 0 and 10 the values 0 1 2 9 stay with 1 and 9; weights draw a mean to the heavier side."""
    values, start = torch.tensor([[9.0, 0.0, 1.0, 2.0]]), torch.tensor([[0.0, 10.0]])
    assert lloyd(sort_rows(values, torch.ones(1, 4)), start).tolist() == [[1.0, 9.0]]
    assert lloyd(sort_rows(values, torch.tensor([[1.0, 2.0, 0.0, 2.0]])), start).tolist() == [[1.0, 9.0]]
    assert lloyd(sort_rows(values, torch.tensor([[1.0, 3.0, 0.0, 1.0]])), start).tolist() == [[0.5, 9.0]]


def test_rows_without_weight_count_equally_and_the_unit_of_the_weights_does_not_matter():
    values, weights = problem(4, 60, seed=9)
    start = torch.linspace(-2, 2, 4).expand(4, 4)
    for method in ("exact", "lloyd"):
        equal = cluster(values, torch.ones_like(weights), start, method)
        assert torch.equal(cluster(values, torch.zeros_like(weights), start, method), equal)
        scaled = cluster(values, weights * 2.0**-100, start, method)
        assert torch.equal(scaled, cluster(values, weights, start, method))


def test_centroids_ascend_and_stay_among_the_values_whatever_the_weights():
    make = torch.Generator().manual_seed(0)
    values = torch.randn(30, 200, generator=make)
    weights = torch.randn(30, 200, generator=make).mul(12).exp()
    start = torch.linspace(-2, 2, 16).expand(30, 16)
    for method in ("exact", "lloyd"):
        found = cluster(values, weights, start, method)
        assert bool((found.diff(dim=1) >= 0).all())
        assert bool((found <= torch.maximum(values.amax(1), start.amax(1)).unsqueeze(1)).all())
        assert bool((found >= torch.minimum(values.amin(1), start.amin(1)).unsqueeze(1)).all())


def test_rows_are_done_by_themselves(monkeypatch: pytest.MonkeyPatch):
    values, weights = problem(11, 50, seed=4)
    start = torch.linspace(-1, 1, 8).expand(11, 8)
    whole = cluster(values, weights, start)
    monkeypatch.setattr(clustering, "CANDIDATES", 100)
    torch.testing.assert_close(cluster(values, weights, start), whole, rtol=0, atol=0)


def test_rows_beyond_the_longest_are_left_to_lloyd(monkeypatch: pytest.MonkeyPatch):
    values, weights = problem(3, 80, seed=2)
    start = torch.linspace(-1, 1, 4).expand(3, 4)
    monkeypatch.setattr(clustering, "LONGEST", 79)
    assert torch.equal(cluster(values, weights, start, "exact"), cluster(values, weights, start, "lloyd"))


def test_codes_are_those_of_the_nearest_level():
    table = torch.tensor([[-1.0, 0.0, 0.5, 0.5]])
    values = torch.tensor([[-9.0, -0.6, -0.5, -0.4, 0.2, 0.25, 0.3, 7.0]])
    assert table.gather(1, nearest_codes(values, table).long()).tolist() == [[-1, -1, -1, 0, 0, 0, 0.5, 0.5]]
