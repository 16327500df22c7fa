"""Histograms against numpy, block means by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.measures.distribution import block_means, histogram, log10_histogram


def test_histogram_agrees_with_numpy_and_leaves_out_what_lies_outside():
    values = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    ours = histogram(values, low=-1.5, high=2.0, bins=13)
    count, edges = np.histogram(values.double().numpy(), bins=13, range=(-1.5, 2.0))
    assert ours.count.tolist() == count.tolist()
    assert ours.low.tolist() == pytest.approx(edges[:-1].tolist())
    assert ours.high.tolist() == pytest.approx(edges[1:].tolist())
    assert int(ours.count.sum()) < values.numel()


def test_values_on_an_edge_belong_to_the_bin_above_but_the_last():
    ours = histogram(torch.tensor([0.0, 1.0, 2.0, 3.0]), low=0.0, high=3.0, bins=3)
    assert ours.count.tolist() == [1, 1, 2]


def test_a_histogram_of_one_bin_or_of_nothing():
    assert histogram(torch.tensor([0.5]), low=0.0, high=1.0, bins=1).count.tolist() == [1]
    assert histogram(torch.empty(0), low=0.0, high=1.0, bins=2).count.tolist() == [0, 0]


def test_decades_of_scores():
    scores = torch.cat([torch.full((30,), 1e-3), torch.full((60,), 2.0), torch.full((10,), 10.0), torch.zeros(7)])
    ours = log10_histogram(scores, bins=4)
    assert ours is not None
    assert ours.low.tolist() == pytest.approx([-3, -2, -1, 0], abs=1e-6)
    assert ours.count.tolist() == [30, 0, 0, 70]


def test_scores_next_to_zero_do_not_squeeze_the_rest():
    scores = torch.tensor([1e-30, 1e-3, 1.0])
    ours = log10_histogram(scores, bins=6, decades=6.0)
    assert ours is not None
    assert float(ours.low[0]) == pytest.approx(-6)
    assert ours.count.tolist() == [1, 0, 0, 1, 0, 1]


def test_equal_scores_fill_one_bin_and_zeros_none():
    ours = log10_histogram(torch.full((2, 3), 100.0), bins=3)
    assert ours is not None
    assert ours.count.tolist() == [0, 6, 0]
    assert log10_histogram(torch.zeros(5)) is None


@pytest.mark.parametrize(
    ("low", "high", "bins"), [(0.0, 0.0, 3), (1.0, 0.0, 3), (0.0, math.inf, 3), (0.0, 1.0, 0), (math.nan, 1.0, 2)]
)
def test_edges_that_make_no_bins_are_refused(low: float, high: float, bins: int):
    with pytest.raises(WorkbenchError, match=f"not {bins} from"):
        histogram(torch.ones(3), low=low, high=high, bins=bins)


def test_values_that_have_no_place_are_refused():
    with pytest.raises(WorkbenchError, match="1 of 2 values that are NaN"):
        histogram(torch.tensor([math.nan, 1.0]), low=0.0, high=1.0)
    with pytest.raises(WorkbenchError, match="not negative"):
        log10_histogram(torch.tensor([-1.0, 1.0]))


def test_block_means_of_neighbours_with_a_short_last_run():
    ours = block_means(torch.arange(10.0), limit=4)
    assert ours.start.tolist() == [0, 3, 6, 9]
    assert ours.mean.tolist() == [1, 4, 7, 9]


@pytest.mark.parametrize("count", [1, 511, 512, 513, 2048, 11008])
def test_block_means_never_exceed_the_limit_and_keep_the_total(count: int):
    channels = torch.rand(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    ours = block_means(channels)
    assert len(ours.mean) == len(ours.start) <= 512
    lengths = torch.cat([ours.start, torch.tensor([count])]).diff()
    assert float((ours.mean * lengths).sum()) == pytest.approx(float(channels.sum()))
    if count <= 512:
        assert torch.equal(ours.mean, channels)


def test_block_means_of_nothing_are_refused():
    with pytest.raises(WorkbenchError, match="0 channels"):
        block_means(torch.empty(0))
    with pytest.raises(WorkbenchError, match="at most 0"):
        block_means(torch.ones(3), limit=0)
