"""Stochastic rounding: no bias, the variance that the distance to the levels gives, on the grid of the width."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import lowbit
from workbench.errors import WorkbenchError
from workbench.quantizers.arithmetic.stochastic import grid_steps, stochastic_rounding

SEEDS = 200


def weights() -> Tensor:
    """Rows of different reach, a short last group, one row that lies on one side of zero."""
    weight = torch.randn(12, 80, generator=torch.Generator().manual_seed(5)) * torch.logspace(-3, 1, 12)[:, None]
    weight[3] = weight[3].abs()
    return weight


def drawn(weight: Tensor, seed: int, **grid: int | bool) -> Tensor:
    return stochastic_rounding(weight, **grid, generator=torch.Generator().manual_seed(seed))


def deviations(weight: Tensor, mean: Tensor, steps: Tensor) -> Tensor:
    """Mean of the draws minus the weight in standard errors, where the weight is on no level."""
    above = weight.double() / steps
    above = above - above.floor()
    error = steps * (above * (1 - above) / SEEDS).sqrt()
    free = above * (1 - above) > 0.02  # too few draws leave a level that is nearly reached
    return ((mean - weight.double()) / error)[free]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_mean_over_seeds_is_the_weight(bits: int, symmetric: bool) -> None:
    weight = weights()
    grid = {"bits": bits, "group_size": 32, "symmetric": symmetric}
    mean = torch.stack([drawn(weight, seed, **grid).double() for seed in range(SEEDS)]).mean(0)
    found = deviations(weight, mean, grid_steps(weight, bits, 32, symmetric))
    # independent and of unit variance: so is the mean of all, times the root of their number
    assert abs(float(found.mean())) < 3 / math.sqrt(len(found))
    assert float(found.square().mean()) == pytest.approx(1, abs=0.15)
    assert float((found.abs() > 3).double().mean()) < 0.01
    # the counterpart fails: stopping at the ends of the codes, as a stored code has to, is biased
    packed = lowbit.quantize(weight, bits=bits, group_size=32, symmetric=symmetric)
    nearest = deviations(weight, lowbit.dequantize(packed).double(), grid_steps(weight, bits, 32, symmetric))
    assert float(nearest.square().mean()) > 10


def test_values_are_neighbouring_multiples_of_the_stored_scale() -> None:
    weight = weights()
    packed = lowbit.quantize(weight, bits=3, group_size=32)
    steps = grid_steps(weight, 3, 32)
    stored = packed.scale.double()
    expected = torch.cat([stored[:, [place]].expand(12, width) for place, width in enumerate((32, 32, 16))], 1)
    assert torch.equal(steps, expected)
    one = drawn(weight, 0, bits=3, group_size=32).double()
    assert bool(((one - weight.double()).abs() < steps).all())
    torch.testing.assert_close(one / steps, (one / steps).round(), atol=1e-4, rtol=0)


def test_a_weight_on_a_level_stays_and_a_seed_says_all() -> None:
    weight = lowbit.dequantize(lowbit.quantize(weights(), bits=2, group_size=-1))
    assert torch.equal(drawn(weight, 1, bits=2, group_size=-1), weight)
    free = weights()
    assert torch.equal(drawn(free, 7, bits=4, group_size=64), drawn(free, 7, bits=4, group_size=64))
    assert not torch.equal(drawn(free, 7, bits=4, group_size=64), drawn(free, 8, bits=4, group_size=64))


def test_sixteen_bits_cut_a_step_of_eight_into_257() -> None:
    weight = weights()
    ratio = grid_steps(weight, 8, 32) / grid_steps(weight, 16, 32)
    assert ratio.unique().tolist() == pytest.approx([257])
    error = (drawn(weight, 0, bits=16, group_size=32) - weight).abs().max() / weight.abs().max()
    assert float(error) < 2**-15


def test_other_widths_and_weights_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(WorkbenchError, match="bits has value 5; choose one of: 1, 2, 3, 4, 8, 16"):
        drawn(weights(), 0, bits=5, group_size=32)
    with pytest.raises(WorkbenchError):
        drawn(torch.full((2, 32), math.nan), 0, bits=4, group_size=32)
