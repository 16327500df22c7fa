"""StatsQ: as many levels as codes, binarization in closed form, and the figures of layer S."""

from __future__ import annotations

import layers
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.quantizers.statsq import statsq


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_every_row_has_exactly_as_many_levels_as_codes(bits: int):
    """O1, with both ends far outside, where a clamp to -1 itself would make a level too many."""
    weight = torch.randn(5, 4096, generator=torch.Generator().manual_seed(bits))
    weight[:, 0], weight[:, 1] = -50, 50
    held = statsq(weight, bits=bits)
    ratio = held.dequantize() / held.scale.float()
    levels = (torch.arange(2**bits) - 2 ** (bits - 1) + 0.5) / 2 ** (bits - 1)
    for row in ratio:
        assert torch.equal(row.unique(), levels)


def test_one_bit_is_binarization_in_closed_form(layer_s: layers.Layer):
    """O2: mean|w| sign(w), the best there is with one magnitude (XNOR-Net)."""
    weight = layer_s.weight
    closed = weight.abs().mean(1, keepdim=True) * torch.where(weight >= 0, 1.0, -1.0)
    torch.testing.assert_close(statsq(weight, bits=1).dequantize(), closed, rtol=2**-11, atol=0)


@pytest.mark.parametrize(("bits", "figure"), [(2, 0.2362), (3, 0.1662), (4, 0.1415)])
def test_the_figures_of_layer_s(layer_s: layers.Layer, bits: int, figure: float):
    weight = layer_s.weight.double()
    error = statsq(layer_s.weight, bits=bits).dequantize().double() - weight
    assert float(error.square().sum() / weight.square().sum()) == pytest.approx(figure, abs=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_weight_goes_to_the_nearest_level(layer_s: layers.Layer, bits: int):
    held = statsq(layer_s.weight[:8], bits=bits)
    half = 2 ** (bits - 1)
    levels = (torch.arange(2**bits).double() - half + 0.5) / half * held.scale.double()
    nearest = (levels.unsqueeze(1) - layer_s.weight[:8].double().unsqueeze(2)).abs().amin(2)
    error = (held.dequantize().double() - layer_s.weight[:8].double()).abs()
    torch.testing.assert_close(error, nearest, rtol=0, atol=2e-6 * float(held.scale.max()))


def test_a_row_by_hand():
    """mean|w| = 1, s = 2: at 2 bits the levels are -1.5, -0.5, 0.5, 1.5."""
    weight = torch.tensor([[0.0, 3.0, -0.9, 0.1, -1.1, -0.9, 1.0, -1.0]])
    assert float(weight.abs().mean()) == 1.0
    held = statsq(weight, bits=2)
    assert held.dequantize().tolist() == [[0.5, 1.5, -0.5, 0.5, -1.5, -0.5, 0.5, -1.5]]
    assert held.codes().tolist() == [[2, 3, 1, 2, 0, 1, 2, 0]]  # ties at 1 and -1 go to the even code


@pytest.mark.parametrize(("columns", "stored"), [(2048, 2.0078125), (4096, 2.00390625)])
def test_published_sizes(columns: int, stored: float):
    held = statsq(torch.randn(2, columns), bits=2)
    assert held.stored_bits == stored
    assert held.nominal_bits == 2


def test_zero_rows_stay_zero_and_great_rows_are_refused():
    weight = torch.ones(3, 16)
    weight[1] = 0
    for symmetric in (False, True):
        dense = statsq(weight, bits=3, symmetric=symmetric).dequantize()
        assert bool((dense[1] == 0).all())
        assert bool(((dense[0] - 1).abs() == 0.25).all())  # s = 2, n = 4: the levels next to 1 are 0.75 and 1.25
    with pytest.raises(WorkbenchError, match="a scale of 80000 is beyond fp16"):
        statsq(torch.full((1, 8), 4e4), bits=2)
