"""Magnitude, activation, wanda and obd against a layer small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from workbench.model.sites import SiteStatistics
from workbench.ordering import topk_mask
from workbench.salience.activation import activation
from workbench.salience.magnitude import magnitude
from workbench.salience.obd import obd
from workbench.salience.wanda import wanda

Maker = Callable[[torch.Tensor], SiteStatistics]
WEIGHT = torch.tensor([[1.0, -2.0, 3.0], [0.0, 4.0, -4.0]])
INPUTS = torch.tensor([[1.0, 0.0, -2.0], [-3.0, 0.0, 2.0]])


def test_magnitude_by_hand(statistics_of: Maker):
    stats = statistics_of(INPUTS)
    assert magnitude(WEIGHT, stats).tolist() == [[1, 2, 3], [0, 4, 4]]
    assert magnitude(WEIGHT, stats, relative_to="row").flatten().tolist() == pytest.approx([0.5, 1, 1.5, 0, 1.5, 1.5])
    by_matrix = magnitude(WEIGHT, stats, relative_to="matrix")
    assert by_matrix.flatten().tolist() == pytest.approx([3 / 7, 6 / 7, 9 / 7, 0, 12 / 7, 12 / 7])


def test_activation_by_hand_knows_no_weight(statistics_of: Maker):
    stats = statistics_of(INPUTS)
    assert activation(WEIGHT, stats).tolist() == [2, 0, 2]
    assert activation(7 * WEIGHT, stats, statistic="max").tolist() == [3, 0, 2]
    assert activation(WEIGHT, stats, statistic="rms").tolist() == pytest.approx([5**0.5, 0, 2])


def test_wanda_and_obd_by_hand(statistics_of: Maker):
    stats = statistics_of(INPUTS)
    rms = [5**0.5, 0.0, 2.0]
    assert wanda(WEIGHT, stats).flatten().tolist() == pytest.approx([rms[0], 0, 6, 0, 0, 8])
    assert obd(WEIGHT, stats).flatten().tolist() == pytest.approx([10, 0, 72, 0, 0, 128])


def test_wanda_is_the_weight_times_the_root_of_the_gram_and_its_square_half_of_obd(layer_s):
    scores = wanda(layer_s.weight, layer_s.statistics)
    direct = layer_s.weight.abs().double() * (layer_s.inputs.double().square().mean(0)).sqrt()
    torch.testing.assert_close(scores.double(), direct, rtol=1e-6, atol=0)
    assert layer_s.statistics.gram is not None
    torch.testing.assert_close(scores, layer_s.weight.abs() * layer_s.statistics.gram.diagonal().sqrt())
    torch.testing.assert_close(scores.square(), obd(layer_s.weight, layer_s.statistics) / 2, rtol=1e-5, atol=0)


def test_wanda_does_not_grow_with_the_amount_of_text(statistics_of: Maker):
    once, twice = statistics_of(INPUTS), statistics_of(torch.cat([INPUTS, INPUTS]))
    torch.testing.assert_close(wanda(WEIGHT, once), wanda(WEIGHT, twice))


def test_obd_is_twice_the_output_error_of_removing_one_weight(layer_s):
    scores = obd(layer_s.weight, layer_s.statistics)
    for row, column in ((0, 0), (17, 400), (255, 511)):
        pruned = layer_s.weight[row].double().clone()
        pruned[column] = 0
        error = (layer_s.inputs.double() @ (pruned - layer_s.weight[row].double())).square().mean()
        assert float(scores[row, column]) == pytest.approx(2 * float(error), rel=1e-5)


def test_exact_counts_with_ties_whatever_the_metric_scores(statistics_of: Maker):
    weight = torch.tensor([[1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, -1.0, 2.0]])
    scores = magnitude(weight, statistics_of(torch.ones(3, 4)))
    mask = topk_mask(scores, 3)
    assert mask.tolist() == [[True, True, False, False], [False, False, False, True]]
    assert topk_mask(scores, 2, by_row=True).sum(1).tolist() == [2, 2]
