"""GPTQ against round to nearest, the published loop in float64, and what it owes its storage."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import layers
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.linalg import DampingRaised, inverse_cholesky
from workbench.model.sites import SiteStatistics
from workbench.quantizers.gptq import gptq
from workbench.quantizers.rtn import rtn
from workbench.quantizers.weight import AffineWeight, QuantizedWeight
from workbench.registry import quantizers

Statistics = Callable[[torch.Tensor], SiteStatistics]


def output_error(layer: layers.Layer, held: QuantizedWeight) -> float:
    assert layer.statistics.gram is not None
    lost = (layer.weight - held.dequantize()).double()
    return float((lost @ layer.statistics.gram.double() * lost).sum())


def codes_of(held: QuantizedWeight) -> torch.Tensor:
    assert isinstance(held, AffineWeight)
    return held.packed.codes()


@pytest.fixture(scope="module")
def diagonal(statistics_of: Statistics) -> tuple[torch.Tensor, SiteStatistics]:
    """Heavy-tailed weights and inputs of which one column at a time is not zero, of uneven size."""
    generator = torch.Generator().manual_seed(5)
    size = torch.exp(torch.randn(100, generator=generator))
    weight = 0.02 * torch.randn(9, 100, generator=generator) * (1 + torch.randn(9, 100, generator=generator) ** 2)
    return weight, statistics_of(torch.diag(size).repeat(3, 1))


@pytest.mark.parametrize(("bits", "ratio"), [(4, 0.700), (3, 0.710), (2, 0.738)])
def test_on_the_same_grid_it_beats_round_to_nearest(layer_s: layers.Layer, bits: int, ratio: float):
    """The design's figures, measured with a sweep written by itself."""
    ours = gptq(layer_s.weight, layer_s.statistics, bits=bits, group_size=128, static_groups=True)
    nearest = rtn(layer_s.weight, bits=bits, group_size=128)
    assert torch.equal(ours.tensors()["scale"], nearest.packed.scale)
    assert output_error(layer_s, ours) / output_error(layer_s, nearest) == pytest.approx(ratio, abs=0.003)


def test_with_groups_fitted_on_the_way_it_need_not(layer_s: layers.Layer):
    """At 2 bits the fitted grids are wider than those of the full weight: 1.006 times the error of rounding."""
    ours = output_error(layer_s, gptq(layer_s.weight, layer_s.statistics, bits=2, group_size=128))
    assert 1 < ours / output_error(layer_s, rtn(layer_s.weight, bits=2, group_size=128)) < 1.02


def test_the_error_of_the_weights_grows(layer_s: layers.Layer):
    ours = gptq(layer_s.weight, layer_s.statistics, bits=4, group_size=128, static_groups=True).dequantize()
    nearest = rtn(layer_s.weight, bits=4, group_size=128).dequantize()
    assert (ours - layer_s.weight).square().sum() > 4 * (nearest - layer_s.weight).square().sum()


def test_eight_bits_are_as_much_better_as_their_step(layer_s: layers.Layer):
    errors = {
        bits: output_error(layer_s, gptq(layer_s.weight, layer_s.statistics, bits=bits, group_size=128))
        for bits in (4, 8)
    }
    assert errors[8] < 6e-3 * errors[4]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_blocks_change_no_code(layer_s: layers.Layer, bits: int):
    codes = [
        codes_of(gptq(layer_s.weight, layer_s.statistics, bits=bits, group_size=128, static_groups=True, block=block))
        for block in (512, 128, 32)
    ]
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], codes[2])


@pytest.mark.parametrize(("symmetric", "static"), list(itertools.product((False, True), repeat=2)))
@pytest.mark.parametrize(("bits", "group_size"), [(1, 32), (2, -1), (3, 32), (4, 24), (8, 200)])
def test_with_uncorrelated_inputs_it_is_round_to_nearest(
    diagonal: tuple[torch.Tensor, SiteStatistics], bits: int, group_size: int, symmetric: bool, static: bool
):
    weight, statistics = diagonal
    for held in (weight, weight.bfloat16()):
        nearest = rtn(held, bits=bits, group_size=group_size, symmetric=symmetric)
        options = {"bits": bits, "group_size": group_size, "symmetric": symmetric, "static_groups": static}
        ours = gptq(held, statistics, **options)
        assert {name: t.tolist() for name, t in ours.tensors().items()} == {
            name: t.tolist() for name, t in nearest.tensors().items()
        }
        if static:
            assert torch.equal(gptq(held, statistics, **options, act_order=True).dequantize(), ours.dequantize())


def test_ties_go_to_even(statistics_of: Statistics):
    """Range -1 to 2 at 2 bits: step 1, zero at code 1, and halves between codes."""
    weight = torch.tensor([[-1.0, 2.0, 0.5, 1.5, -0.5, 0.0, 0.4, 0.6]])
    held = gptq(weight, statistics_of(torch.eye(8)), bits=2, group_size=-1)
    assert held.dequantize().tolist() == [[-1, 2, 0, 2, 0, 0, 0, 1]]


def published_loop(
    weight: torch.Tensor, upper: torch.Tensor, bits: int, group_size: int, *, block: int, stale: bool
) -> torch.Tensor:
    """Codes of GPTQ's loop in float64; `stale` fits a group to the weights as they were when its block began."""
    weight, codes = weight.double().clone(), torch.zeros_like(weight, dtype=torch.float64)
    scale = zero = torch.zeros(len(weight), dtype=torch.float64)
    for start in range(0, weight.shape[1], block):
        held = weight[:, start : start + block].clone()
        errors = torch.zeros_like(held)
        for place in range(held.shape[1]):
            column = start + place
            if column % group_size == 0:
                source = weight[:, column : column + group_size] if stale else held[:, place : place + group_size]
                low, high = source.float().amin(1).clamp(max=0), source.float().amax(1).clamp(min=0)
                scale = ((high - low) / (2**bits - 1)).half().float()
                zero, scale = (-low / scale).round().double(), scale.double()
            codes[:, column] = ((held[:, place] / scale).round() + zero).clamp(0, 2**bits - 1)
            errors[:, place] = (held[:, place] - scale * (codes[:, column] - zero)) / upper[column, column]
            held[:, place:] -= errors[:, place, None] * upper[column, column : start + held.shape[1]]
        weight[:, start + block :] -= errors @ upper[start : start + block, start + block :]
    return codes


@pytest.mark.parametrize("group_size", [128, 32])
def test_it_is_the_published_loop_with_groups_fitted_to_current_weights(layer_s: layers.Layer, group_size: int):
    """In float64; float32 tips a code where two levels are equally near, and the rest of its row follows."""
    assert layer_s.statistics.gram is not None
    upper = inverse_cholesky(layer_s.statistics.gram).upper
    ours = codes_of(gptq(layer_s.weight, layer_s.statistics, bits=3, group_size=group_size))
    mended = published_loop(layer_s.weight, upper, 3, group_size, block=128, stale=False)
    assert float((ours != mended).float().mean()) < 0.005
    stale = published_loop(layer_s.weight, upper, 3, group_size, block=128, stale=True)
    assert (float((ours != stale).float().mean()) > 0.1) == (group_size < 128)


@pytest.mark.parametrize(("act_order", "static"), list(itertools.product((False, True), repeat=2)))
def test_a_dead_column_becomes_zero(statistics_of: Statistics, act_order: bool, static: bool):
    generator = torch.Generator().manual_seed(2)
    inputs, weight = torch.randn(300, 70, generator=generator), torch.randn(6, 70, generator=generator)
    inputs[:, [3, 40, 69]] = 0
    held = gptq(
        weight, statistics_of(inputs), bits=3, group_size=32, act_order=act_order, static_groups=static
    ).dequantize()
    assert not held[:, [3, 40, 69]].any()
    assert held.any(0).sum() == 67


@pytest.mark.parametrize("tokens", [1, 8])
def test_fewer_tokens_than_columns_will_do(statistics_of: Statistics, tokens: int):
    generator = torch.Generator().manual_seed(4)
    weight, inputs = torch.randn(5, 64, generator=generator), torch.randn(tokens, 64, generator=generator)
    held = gptq(weight, statistics_of(inputs), bits=4, group_size=16)
    lost = (held.dequantize() - weight) @ inputs.T
    nearest = (rtn(weight, bits=4, group_size=16).dequantize() - weight) @ inputs.T
    assert lost.norm() < 0.4 * nearest.norm()


def test_a_damping_that_is_too_small_is_raised_and_told(statistics_of: Statistics):
    """Two loud columns that are alike: what one leaves of the other drowns in the rounding of the Gram."""
    inputs = torch.ones(1, 256)
    inputs[0, :2] = 1000
    weight = torch.randn(5, 256, generator=torch.Generator().manual_seed(4))
    with pytest.warns(DampingRaised, match=r"damping 0\.0001 was too small"):
        held = gptq(weight, statistics_of(inputs), bits=4, group_size=16, damping=0.0001)
    assert torch.isfinite(held.dequantize()).all()


def test_neither_weight_nor_statistics_are_changed(layer_s: layers.Layer):
    assert layer_s.statistics.gram is not None
    weight, gram = layer_s.weight.clone(), layer_s.statistics.gram.clone()
    gptq(layer_s.weight, layer_s.statistics, bits=2, group_size=64, act_order=True)
    assert torch.equal(layer_s.weight, weight)
    assert torch.equal(layer_s.statistics.gram, gram)


def test_without_a_gram_it_refuses(statistics_of: Statistics):
    with pytest.raises(WorkbenchError, match="'gram'"):
        gptq(torch.ones(2, 4), None, bits=4, group_size=-1)


def test_a_weight_beyond_fp16_is_refused_either_way(statistics_of: Statistics):
    for static in (False, True):
        with pytest.raises(WorkbenchError, match="fp16"):
            gptq(torch.full((2, 4), 1e8), statistics_of(torch.eye(4)), bits=4, group_size=-1, static_groups=static)


def test_its_controls():
    options = {option.name: option.default for option in quantizers.get("gptq").options}
    assert options == {
        "static_groups": False,
        "act_order": False,
        "damping": 0.01,
        "block": 128,
        "inputs": "quantized",
    }
