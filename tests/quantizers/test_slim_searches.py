"""The two searches of SliM-LLM, for widths and for ranges, against the same written out."""

from __future__ import annotations

from collections.abc import Callable

import layers
import pytest
import torch
from slim_objectives import OBJECTIVES, distance

from workbench.model.sites import SiteStatistics
from workbench.quantizers.arithmetic.salient_clip import ClipSearch, Shares, shares_of, standouts
from workbench.quantizers.arithmetic.width_search import Objective, chosen_widths, divergence, group_sums, search_widths

Statistics = Callable[[torch.Tensor], SiteStatistics]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_divergences_are_what_they_are_called(objective: Objective):
    """`kl` is KL(quantized || original), as released; `kl_reversed` the other way round, as printed."""
    generator = torch.Generator().manual_seed(1)
    outputs, reference = 3 * torch.randn(2, 700, 500, generator=generator)
    assert divergence(outputs, reference, objective) == pytest.approx(distance(outputs, reference, objective), rel=1e-5)
    assert divergence(reference, reference, objective) == 0


def test_candidates_give_the_least_salient_a_bit_less():
    order = [3, 0, 2, 4, 1]
    assert chosen_widths(order, 2, 0) == (2, 2, 2, 2, 2)
    assert chosen_widths(order, 2, 1) == (2, 3, 2, 1, 2)
    assert chosen_widths(order, 2, 2) == (1, 3, 2, 1, 3)


def test_widths_stay_uniform_where_no_group_differs():
    """Alike groups under white inputs: what one bit less costs, one bit more does not bring in."""
    generator = torch.Generator().manual_seed(8)
    weight, rows = torch.randn(64, 256, generator=generator), torch.randn(512, 256, generator=generator)
    for objective in OBJECTIVES:
        widths = search_widths(
            weight, torch.arange(8.0), rows, bits=3, group_size=32, symmetric=False, objective=objective
        )
        assert widths == (3,) * 8


def searched(
    columns: torch.Tensor, counts: torch.Tensor, bits: int, shares: tuple[float, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero point of the best range of each row [out, columns], written out for the whole group at once."""
    low, high = columns.amin(1).clamp(max=0), columns.amax(1).clamp(min=0)
    qmax, tried = torch.tensor(2.0**bits - 1), []
    for share in shares:
        scale = ((high * share - low * share) / qmax).half().clamp(min=2**-24)
        zero = (-(low * share) * (1 / scale.float())).round().clamp(0, float(qmax))
        codes = ((columns * (1 / scale.float())[:, None]).round() + zero[:, None]).clamp(0, float(qmax))
        lost = ((codes - zero[:, None]) * scale.float()[:, None] - columns).abs()
        tried.append((scale, zero, (lost.double().pow(2.4) * counts).sum(1)))
    best = torch.stack([error for _, _, error in tried]).argmin(0)
    pick = torch.arange(len(columns))
    return (
        torch.stack([scale for scale, _, _ in tried])[best, pick],
        torch.stack([z for _, z, _ in tried])[best, pick],
    )


@pytest.mark.parametrize("clip", ["released", "wide"])
@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_the_best_range_is_found(layer_s: layers.Layer, clip: Shares, weight: float):
    columns, shares = layer_s.weight[:, :128], shares_of(clip)
    salience = columns.square() * torch.linspace(1, 50, 128)
    counts = 1 + (weight - 1) * (salience > salience.mean() + 2 * salience.std(correction=0))
    levels = ClipSearch(shares, 2.0, weight, False).fit(columns.T.contiguous(), salience.T.contiguous(), 2)
    scale, zero = searched(columns, counts.double(), 2, shares)
    assert float((levels.scale != scale).float().mean()) < 0.02  # errors in float32 may tie
    assert float((levels.zero != zero).float().mean()) < 0.02


def test_most_rows_take_the_lower_end_of_the_released_range(layer_s: layers.Layer):
    """The finding behind the wide search: at 2 bits the best share lies far below 0.9."""
    columns = layer_s.weight[:, :128].T.contiguous()
    low, high = columns.amin(0), columns.amax(0)
    found = {
        clip: ClipSearch(shares_of(clip), 2.0, 1.0, False).fit(columns, columns.square(), 2).scale.float()
        for clip in ("released", "wide")
    }
    assert ((found["released"] * 3 / (high - low)).sub(0.9).abs() < 1e-3).float().mean() > 0.9
    assert (found["wide"] * 3 / (high - low)).median() < 0.8


def test_the_shares_that_are_tried():
    released = shares_of("released")
    assert released[0] == 1
    assert len(released) == len(set(released)) == 101
    assert (min(released), max(released)) == pytest.approx((0.9, 1.1))
    assert (min(shares_of("wide")), max(shares_of("wide"))) == pytest.approx((0.5, 1.1))


def test_nothing_stands_out_where_all_are_alike():
    assert not standouts(torch.full((8, 4), 0.3), 2.0).any()
    assert standouts(torch.tensor([[0.0] * 20 + [9.0]]), 2.0).nonzero().tolist() == [[0, 20]]


def test_group_scores_are_sums_over_all_rows():
    scores = torch.arange(20.0).reshape(2, 10)
    assert group_sums(scores, 4).tolist() == [52, 84, 54]
