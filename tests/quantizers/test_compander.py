"""Companders: levels against the formula in float64, what the search may cost, and powers as automorphisms."""

from __future__ import annotations

import math

import layers
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.quantizers.compander import bends, compander
from workbench.quantizers.weights.tables import bent_levels, compress, expand


def squared(weight: torch.Tensor, **options: object) -> float:
    dense = compander(weight, **options).dequantize()  # type: ignore[arg-type]
    return float((dense - weight).double().square().sum())


def by_formula(inside: torch.Tensor, most: int, bend: float, curve: str) -> torch.Tensor:
    """Bent, rounded, bent back; sizes in 0..1, float64."""
    if curve == "power":
        return ((most * inside**bend).round() / most) ** (1 / bend)
    bent = (bend * inside).log1p() / math.log1p(bend)
    return ((most * bent).round() / most * math.log1p(bend)).expm1() / bend


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("curve", ["power", "mu_law"])
def test_values_are_those_of_the_formula(layer_s: layers.Layer, bits: int, curve: str):
    weight = layer_s.weight[:8].double()
    held = compander(layer_s.weight[:8], bits=bits, group_size=64, map=curve)  # type: ignore[arg-type]
    scale = held.scale.double().repeat_interleave(64, dim=1)
    assert torch.equal(held.scale.double(), weight.reshape(8, 8, 64).abs().amax(2).half().double())
    size = by_formula((weight / scale).abs().clamp_max(1), 2 ** (bits - 1) - 1, float(held.parameter), curve)
    error = (held.dequantize().double() - weight.sign() * size * scale).abs() / scale
    assert float((error > 1e-6).double().mean()) < 1e-3  # float32 may take a tie the other way


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("curve", ["power", "mu_law"])
def test_a_bend_helps_heavy_tails_and_the_search_finds_the_best_of_its_candidates(
    layer_s: layers.Layer, bits: int, curve: str
):
    options = {"bits": bits, "group_size": 128, "map": curve}
    straight, few, many = (squared(layer_s.weight, candidates=count, **options) for count in (1, 6, 16))
    assert many < 0.8 * straight
    assert many <= few * 1.0001  # the candidates of 6 are among those of 16, but for the rounding to fp16
    assert float(compander(layer_s.weight, candidates=1, **options).parameter) == (1.0 if curve == "power" else 0.0)


def test_evenly_spread_weights_need_no_bend():
    weight = 2 * torch.rand(32, 512, generator=torch.Generator().manual_seed(0)) - 1
    assert float(compander(weight, bits=4, group_size=128).parameter) == 1.0
    assert float(compander(weight, bits=4, group_size=128, map="mu_law").parameter) == 0.0


def test_powers_are_automorphisms_so_the_unit_of_the_weights_does_not_matter(layer_s: layers.Layer):
    """(x y)^p = x^p y^p, exactly so for powers of two."""
    plain, scaled = (compander(layer_s.weight * unit, bits=4, group_size=64) for unit in (1.0, 8.0))
    assert torch.equal(plain.codes(), scaled.codes())
    assert torch.equal(plain.dequantize() * 8, scaled.dequantize())
    held = torch.tensor([0.3, -0.7])
    torch.testing.assert_close(
        compress(held.prod(), 0.6, "power"), compress(held[0], 0.6, "power") * compress(held[1], 0.6, "power")
    )


@pytest.mark.parametrize(("curve", "parameter"), [("power", 0.4), ("power", 1.0), ("mu_law", 0.0), ("mu_law", 255.0)])
def test_a_curve_and_its_inverse(curve: str, parameter: float):
    even = torch.linspace(-1, 1, 101, dtype=torch.float64)
    bent = compress(even, parameter, curve)  # type: ignore[arg-type]
    torch.testing.assert_close(expand(bent, parameter, curve), even, rtol=1e-12, atol=1e-15)  # type: ignore[arg-type]
    assert bool((bent.abs() >= even.abs() - 1e-15).all())
    assert bool((bent.diff() > 0).all())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_levels_are_symmetric_with_zero_among_them(bits: int):
    levels = bent_levels(bits, 0.5, "power").unique()
    assert torch.equal(levels, -levels.flip(0))
    assert len(levels) == 2**bits - 1
    steps = torch.arange(2 ** (bits - 1)) / (2 ** (bits - 1) - 1)
    torch.testing.assert_close(levels[levels >= 0], steps.square())


def test_zero_stays_zero_and_the_largest_of_a_group_stays_large():
    weight = torch.randn(4, 100, generator=torch.Generator().manual_seed(2))
    weight[:, ::7], weight[1], weight[2] = 0, 0, -0.37
    dense = compander(weight, bits=3, group_size=32).dequantize()
    assert bool((dense[weight == 0] == 0).all())
    torch.testing.assert_close(dense[2], weight[2], rtol=2**-11, atol=0)
    for start in range(0, 100, 32):
        part = weight[:, start : start + 32]
        largest = dense[:, start : start + 32].abs().amax(1)
        torch.testing.assert_close(largest, part.abs().amax(1), rtol=2**-11, atol=0)


def test_candidates_run_from_the_straight_grid_to_the_strongest_bend():
    assert bends("power", 4, torch.device("cpu")).tolist() == [1.0, 0.75, 0.5, 0.25]
    mus = bends("mu_law", 3, torch.device("cpu"))
    assert mus.tolist() == pytest.approx([0, 15, 255], rel=1e-3)  # 1 + mu = 1, 16, 256


def test_sizes():
    weight = torch.randn(64, 2048, generator=torch.Generator().manual_seed(3))
    held = compander(weight, bits=4, group_size=64)
    assert held.stored_bits == 4.25 + 16 / weight.numel()
    assert held.nominal_bits == 4
    assert compander(weight, bits=3, group_size=-1, symmetric=False).stored_bits == 3 + 16 / 2048 + 16 / weight.numel()


def test_what_is_refused():
    with pytest.raises(WorkbenchError, match="choose one of: 2, 3, 4, 8"):
        compander(torch.ones(1, 8), bits=1, group_size=-1)
    with pytest.raises(WorkbenchError, match="beyond fp16"):
        compander(torch.full((1, 8), 1e6), bits=2, group_size=-1)
