"""Metrics of maps on functions whose answer is known: the direction of each, and closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.measures import faithfulness as measure
from workbench.measures.forecasts import effects, halves, infidelity, sensitivity_n, subsets
from workbench.measures.rfxg import DIRECTIONS, rfxg

WORTH = torch.tensor([0.5, -0.2, 3.0, 0.1, 1.0, -0.7, 0.05, 0.3, 2.0, -0.1], dtype=torch.float64)
UNITS = len(WORTH)


def additive(keep: Tensor) -> Tensor:
    """F is the sum of the worths of the units that are kept, so that they are the true scores."""
    return keep.double() @ WORTH - 4


def found_in(scores: Tensor) -> dict[str, measure.Standing]:
    """Every metric of an order of removal, among those of random orders."""
    band, order = measure.random_band(additive, additive, UNITS, orders=40), measure.order_of(scores)
    deletion, insertion = (
        float(measure.areas(curve(additive, order), UNITS)[0])
        for curve in (measure.deletion_curves, measure.insertion_curves)
    )
    comprehensiveness, sufficiency = (float(one[0]) for one in measure.removal_effects(additive, order))
    return {
        "deletion": measure.standing(deletion, band.areas, low_is_good=True),
        "insertion": measure.standing(insertion, band.areas, low_is_good=False),
        "comprehensiveness": measure.standing(comprehensiveness, band.comprehensiveness, low_is_good=False),
        "sufficiency": measure.standing(sufficiency, band.sufficiency, low_is_good=True),
    }


def test_the_true_order_beats_random_in_every_metric_and_the_reversed_one_loses() -> None:
    for name, found in found_in(WORTH).items():
        assert found.z > 1, name
        assert found.percentile == 1, name
    for name, found in found_in(-WORTH).items():
        assert found.z < -1, name
        assert found.percentile <= 0.05, name


def test_areas_have_their_closed_form() -> None:
    """A unit removed as the k-th of n counts in full until k - 1, and half of the step on which it goes."""
    order = WORTH.argsort(descending=True).tolist()
    expected = -4 + sum(float(WORTH[unit]) * (place + 0.5) / UNITS for place, unit in enumerate(order))
    curves = measure.deletion_curves(additive, measure.order_of(WORTH))
    assert float(measure.areas(curves, UNITS)[0]) == pytest.approx(expected, abs=1e-12)
    assert float(curves[0, 0]) == pytest.approx(float(WORTH.sum()) - 4)
    assert float(curves[0, -1]) == -4


def test_insertion_of_an_order_is_deletion_of_its_reverse() -> None:
    orders = measure.random_orders(UNITS, 6)
    inserted = measure.insertion_curves(additive, orders)
    kept = [[torch.isin(torch.arange(UNITS), order[:count]) for count in range(UNITS + 1)] for order in orders]
    by_hand = torch.stack([additive(torch.stack(masks)) for masks in kept])
    torch.testing.assert_close(inserted, by_hand)


@pytest.mark.parametrize("units", [1, 2, 60, 61, 77, 100, 103])
def test_points_of_a_curve_are_the_same_read_backwards(units: int) -> None:
    counts = measure.step_counts(units)
    assert counts.tolist() == sorted(set(counts.tolist()))
    assert (int(counts[0]), int(counts[-1])) == (0, units)
    assert torch.equal(units - counts.flip(0), counts)
    assert len(counts) == (units + 1 if units <= 60 else 21 + units % 2)
    flat = measure.deletion_curves(lambda keep: torch.full((len(keep),), 2.5), measure.random_orders(units, 2))
    assert measure.areas(flat, units).tolist() == pytest.approx([2.5, 2.5])


def test_comprehensiveness_and_sufficiency_by_hand() -> None:
    comprehensiveness, sufficiency = measure.removal_effects(additive, measure.order_of(WORTH), shares=(0.1, 0.2))
    assert float(comprehensiveness[0]) == pytest.approx((3.0 + 5.0) / 2)
    total = float(WORTH.sum())
    assert float(sufficiency[0]) == pytest.approx(total - (3.0 + 5.0) / 2)


def test_a_place_among_random_orders() -> None:
    others = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    low = measure.standing(2.0, others, low_is_good=True)
    assert (low.mean, low.percentile) == (2.5, pytest.approx(0.625))
    assert low.z == pytest.approx(0.5 / others.std().item())
    assert measure.standing(2.0, others, low_is_good=False).z == -low.z
    assert math.isnan(measure.standing(2.0, torch.full((4,), 3.0, dtype=torch.float64), low_is_good=True).z)


def test_true_scores_foretell_every_removal() -> None:
    keep = halves(UNITS)
    assert not keep.all(1).any()
    effect = effects(additive, keep)
    assert infidelity(WORTH, keep, effect) == pytest.approx(0, abs=1e-20)
    assert infidelity(torch.zeros(UNITS), keep, effect) == pytest.approx(1)
    assert infidelity(2 * WORTH, keep, effect) == pytest.approx(1)
    assert infidelity(-WORTH, keep, effect) == pytest.approx(4)
    for removed in (1, 2, 4):
        sets = subsets(UNITS, removed)
        assert ((~sets).sum(1) == removed).all()
        of_sets = effects(additive, sets)
        assert sensitivity_n(3 * WORTH, sets, of_sets) == pytest.approx(1)
        assert sensitivity_n(-WORTH, sets, of_sets) == pytest.approx(-1)
    assert math.isnan(sensitivity_n(torch.ones(UNITS), subsets(UNITS, 1), effects(additive, subsets(UNITS, 1))))


def test_sets_are_complete_where_they_are_few() -> None:
    found = {tuple((~row).nonzero().flatten().tolist()) for row in subsets(6, 2)}
    assert found == set(itertools.combinations(range(6), 2))
    assert len(subsets(20, 4, most=50)) == 50
    with pytest.raises(WorkbenchError, match="cannot remove 4 of 3 units"):
        subsets(3, 4)
    with pytest.raises(WorkbenchError, match="at least one unit"):
        measure.order_of(torch.zeros(0))
    with pytest.raises(WorkbenchError, match="NaN"):
        measure.order_of(torch.tensor([1.0, math.nan]))


EVIDENCE = torch.full((10, 4), 0.005, dtype=torch.float64)
EVIDENCE[:2] = torch.tensor([[0.30, 0.01, 0.10, 0.02], [0.0, 0.05, 0.0, 0.01]])
"""Units x classes: unit 0 carries class 0 and, less so, class 2; unit 1 carries class 1."""


def four_classes(keep: Tensor) -> Tensor:
    return 0.1 + keep.double() @ EVIDENCE


def test_rfxg_by_hand_and_in_its_direction() -> None:
    given = {"contrast": 1, "group": (0, 2), "other_group": (1, 3)}
    good = rfxg(four_classes, EVIDENCE[:, 0], 0, **given)
    bad = rfxg(four_classes, -EVIDENCE[:, 0], 0, **given)
    assert good.keys() == DIRECTIONS.keys()
    for name, direction in DIRECTIONS.items():
        assert (good[name] < bad[name]) == (direction == "low"), name
    before = 0.1 + EVIDENCE.sum(0)
    order = EVIDENCE[:, 0].argsort(descending=True, stable=True)
    after = torch.stack([0.1 + EVIDENCE[order[count:]].sum(0) for count in range(1, 10)])
    area = lambda curve: float((curve[1:] + curve[:-1]).sum() / 2 * 0.1)  # noqa: E731
    change = after - before
    assert good["ccs"] == pytest.approx(area(after[:, 0] - after[:, 1]))
    assert good["pgs"] == pytest.approx(-area((change[:, 0] + change[:, 2]) / 2))
    assert good["cgc_code"] == pytest.approx(area((change[:, 0] + (change[:, 0] + change[:, 2]) / 2) / 2))
    assert good["cgc"] == pytest.approx(area(change[:, 0] - change[:, 2]))
    groups = [(change[:, first] + change[:, second]) / 2 for first, second in ((0, 2), (1, 3))]
    assert good["cgs_code"] == pytest.approx(area((groups[0] + groups[1]) / 2))
    assert good["cgs"] == pytest.approx(area(groups[0] - groups[1]))


def test_rfxg_gives_what_the_classes_allow() -> None:
    assert rfxg(four_classes, EVIDENCE[:, 0], 0) == {}
    assert rfxg(four_classes, EVIDENCE[:, 0], 0, group=(0,)).keys() == {"pgs", "cgc_code"}
    with pytest.raises(WorkbenchError, match="class 2 is in both groups"):
        rfxg(four_classes, EVIDENCE[:, 0], 0, group=(0, 2), other_group=(2,))
