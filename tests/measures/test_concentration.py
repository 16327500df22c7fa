"""Shares and curves of concentration, by hand and against the Gini coefficient."""

from __future__ import annotations

import math

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.measures.concentration import coverage, top_share
from workbench.ordering import gini


def test_top_share_by_hand():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert top_share(scores, 0.25) == pytest.approx(0.4)
    assert top_share(scores, 0.5) == pytest.approx(0.7)
    assert top_share(scores, 0.3) == pytest.approx(0.7)
    assert top_share(scores, 0.01) == pytest.approx(0.4)
    assert top_share(scores, 1.0) == pytest.approx(1.0)


def test_top_share_of_equals_is_the_share_itself_without_rounding_up():
    assert top_share(torch.ones(10, 10), 0.01) == pytest.approx(0.01)
    assert top_share(torch.ones(1000), 0.007) == pytest.approx(0.007)
    assert math.isnan(top_share(torch.zeros(4)))


def test_coverage_holds_the_top_shares():
    scores = torch.rand(40, 50, generator=torch.Generator().manual_seed(0)) ** 4
    curve = coverage(scores, points=21)
    assert float(curve.weight_share[0]) == float(curve.salience_share[0]) == 0
    assert float(curve.weight_share[-1]) == pytest.approx(1)
    assert float(curve.salience_share[-1]) == pytest.approx(1)
    for share, held in zip(curve.weight_share[1:], curve.salience_share[1:], strict=True):
        assert float(held) == pytest.approx(top_share(scores, float(share)))
    gains = curve.salience_share.diff()
    assert (gains > 0).all()
    assert (gains.diff() <= 1e-12).all()


def test_area_over_the_diagonal_is_the_gini_coefficient():
    scores = torch.rand(500, generator=torch.Generator().manual_seed(1)) ** 3
    curve = coverage(scores, points=501)
    area = torch.trapezoid(curve.salience_share, curve.weight_share)
    assert 2 * float(area) - 1 == pytest.approx(gini(scores), abs=1e-9)


def test_fewer_scores_than_points_and_no_salience_at_all():
    curve = coverage(torch.tensor([1.0, 3.0]))
    assert curve.weight_share.tolist() == [0, 0.5, 1]
    assert curve.salience_share.tolist() == [0, 0.75, 1]
    flat = coverage(torch.zeros(100), points=5)
    assert torch.equal(flat.weight_share, flat.salience_share)


def test_what_has_no_shares_is_refused():
    for bad in (torch.tensor([1.0, -1.0]), torch.empty(0), torch.tensor([1.0, math.nan])):
        with pytest.raises(WorkbenchError):
            top_share(bad)
        with pytest.raises(WorkbenchError):
            coverage(bad)
    with pytest.raises(WorkbenchError, match=r"share of weights has value 1\.5"):
        top_share(torch.ones(3), 1.5)
    with pytest.raises(WorkbenchError, match="at least 2 points, not 1"):
        coverage(torch.ones(3), points=1)
