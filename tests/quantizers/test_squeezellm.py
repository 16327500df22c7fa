"""SqueezeLLM: what is set aside, what the tables minimize, and the bits of all that is held."""

from __future__ import annotations

import layers
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.model.weightstats import WeightStatistics
from workbench.quantizers.rtn import rtn
from workbench.quantizers.squeezellm import squeezellm
from workbench.quantizers.weights.detached import DenseAndSparse
from workbench.quantizers.weights.tables import TableWeight


def of_fisher(fisher: torch.Tensor) -> WeightStatistics:
    return WeightStatistics(windows=1, grad_sq=fisher)


@pytest.fixture(scope="module")
def fisher(layer_s: layers.Layer) -> torch.Tensor:
    """Squared gradients over four orders of magnitude, as a language model has them."""
    make = torch.Generator().manual_seed(5)
    return torch.randn(layer_s.weight.shape, generator=make).mul(2).exp() * 1e-9


def loss(fisher: torch.Tensor, weight: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    return (fisher.double() * (weight - dense).double().square()).sum(1)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_tables_beat_lloyd_and_lloyd_the_even_grid_it_starts_from(
    layer_s: layers.Layer, fisher: torch.Tensor, bits: int
):
    """K1, in every row: up to the rounding of the tables to fp16."""
    plain = {"sensitive": 0.0, "outliers": 0.0, "bits": bits}
    exact, stepwise = (
        squeezellm(layer_s.weight, of_fisher(fisher), clustering=name, **plain) for name in ("exact", "lloyd")
    )
    even = rtn(layer_s.weight, bits=bits, group_size=-1)
    losses = [loss(fisher, layer_s.weight, held.dequantize()) for held in (exact, stepwise, even)]
    assert bool((losses[0] <= losses[1] * 1.001).all())
    assert bool((losses[1] <= losses[2] * 1.001).all())
    assert float(losses[0].sum()) < 0.8 * float(losses[2].sum())


def test_as_many_different_weights_as_levels_are_held_exactly():
    """K2, with values that fp16 can hold."""
    values = torch.tensor([-0.5, -0.25, -0.125, 0.0625, 0.125, 0.75, 1.0, 4.0])
    weight = values[torch.randint(8, (6, 64), generator=torch.Generator().manual_seed(0))]
    held = squeezellm(weight, of_fisher(torch.ones(6, 64)), bits=3, sensitive=0, outliers=0)
    assert torch.equal(held.dequantize(), weight)


def test_weights_set_aside_come_back_in_full(layer_s: layers.Layer, fisher: torch.Tensor):
    """K3: fp16 rounds the difference to the level, so the error is at most 2^-11 of it, or 2^-25 if that is more."""
    weight = layer_s.weight
    held = squeezellm(weight, of_fisher(fisher), bits=3, sensitive=1.0, outliers=2.0)
    assert isinstance(held, DenseAndSparse)
    aside = torch.zeros_like(weight, dtype=torch.bool)
    rows = torch.arange(256).repeat_interleave(held.sparse.row_start.diff())
    aside[rows, held.sparse.columns.long()] = True
    counts = [int(0.01 * weight.numel()), int(0.02 * weight.numel())]
    assert int(aside.sum()) == sum(counts)
    first = fisher >= fisher.flatten().topk(counts[0]).values[-1]
    assert bool(aside[first].all())
    rest = weight.abs().masked_fill(first, -1)
    assert torch.equal(aside & ~first, rest >= rest.flatten().topk(counts[1]).values[-1])
    error = (held.dequantize() - weight)[aside].abs()
    left = (held.dense.dequantize() - weight)[aside].abs()
    assert bool((error <= left * 2**-11 + 2**-25 + 1e-9).all())
    assert float(error.max()) < 1e-3 * float(weight.abs().max())


def test_outliers_come_back_exactly_where_fp16_holds_the_difference():
    weight = torch.zeros(4, 100)
    weight[:, ::2], weight[2, 7], weight[0, 50] = 0.5, 6.0, -4.0
    held = squeezellm(weight, of_fisher(torch.ones(4, 100)), bits=2, sensitive=0, outliers=0.5)
    assert torch.equal(held.dequantize(), weight)


def test_what_is_set_aside_does_not_draw_levels(layer_s: layers.Layer, fisher: torch.Tensor):
    """The table is that of the row with zeros in their place, whatever the weights set aside are worth."""
    weight = layer_s.weight.clone()
    weight[3, 11], weight[200, 0] = 1.0, -1.0
    share = {"bits": 3, "sensitive": 0.0, "outliers": 100 * 2.5 / weight.numel()}
    held = squeezellm(weight, of_fisher(fisher), **share)
    larger = weight.clone()
    larger[3, 11], larger[200, 0] = 7.0, -3.0
    other = squeezellm(larger, of_fisher(fisher), **share)
    assert isinstance(held, DenseAndSparse)
    assert isinstance(other, DenseAndSparse)
    assert held.detached == 2
    assert torch.equal(held.dense.tensors()["table"], other.dense.tensors()["table"])
    removed = weight.clone()
    removed[3, 11] = removed[200, 0] = 0
    dense = squeezellm(removed, of_fisher(fisher), bits=3, sensitive=0, outliers=0)
    assert torch.equal(held.dense.tensors()["table"], dense.tensors()["table"])


def test_published_sizes():
    """3 bits and half a percent: b + 16 2^b / in + 48 r, and the row starts beside it."""
    weight = torch.randn(64, 2048, generator=torch.Generator().manual_seed(0))
    held = squeezellm(weight, of_fisher(torch.ones_like(weight)), bits=3, sensitive=0.05, outliers=0.45)
    count = int(0.0005 * weight.numel()) + int(0.0045 * weight.numel())
    share = count / weight.numel()
    assert held.nominal_bits == pytest.approx(3 + 16 * 8 / 2048 + 48 * share)
    assert held.nominal_bits == pytest.approx(3.303, abs=1e-3)
    assert held.stored_bits == pytest.approx(held.nominal_bits + 32 * 65 / weight.numel())


def test_nothing_set_aside_is_a_table_alone(layer_s: layers.Layer, fisher: torch.Tensor):
    held = squeezellm(layer_s.weight, of_fisher(fisher), bits=4, sensitive=0, outliers=0)
    assert isinstance(held, TableWeight)
    assert held.stored_bits == held.nominal_bits == 4 + 16 * 16 / 512


def test_rows_without_gradient_and_rows_of_zeros(layer_s: layers.Layer):
    weight = layer_s.weight[:3].clone()
    weight[1] = 0
    fisher = torch.ones(3, 512)
    fisher[2] = 0
    dense = squeezellm(weight, of_fisher(fisher), bits=3, sensitive=0, outliers=0).dequantize()
    assert bool((dense[1] == 0).all())
    equal = squeezellm(weight[2:], of_fisher(torch.ones(1, 512)), bits=3, sensitive=0, outliers=0).dequantize()
    assert torch.equal(dense[2:], equal)


def test_what_is_refused():
    weight = torch.randn(4, 32)
    with pytest.raises(WorkbenchError, match="collect the statistic 'grad_sq'"):
        squeezellm(weight, None, bits=3)
    with pytest.raises(WorkbenchError, match="do not fit"):
        squeezellm(weight, of_fisher(torch.ones(4, 31)), bits=3)
    with pytest.raises(WorkbenchError, match="negative"):
        squeezellm(weight, of_fisher(-torch.ones(4, 32)), bits=3)
    with pytest.raises(WorkbenchError, match="NaN or infinite"):
        squeezellm(weight, of_fisher(torch.full((4, 32), torch.nan)), bits=3)
    with pytest.raises(WorkbenchError, match="choose one of: 2, 3, 4"):
        squeezellm(weight, of_fisher(torch.ones(4, 32)), bits=8)
