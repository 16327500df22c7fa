"""HQQ: the published loop written out, the figures of layer S, and what its float zero point makes possible."""

from __future__ import annotations

import layers
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.quantizers.hqq import hqq


def published(weight: torch.Tensor, bits: int, kappa: float = 1.0) -> torch.Tensor:
    """mobiusml/hqq step for step, in float32 throughout: groups of 64 along axis 1, the default loop."""
    held = weight.reshape(-1, 64)
    low, high = held.min(1, keepdim=True).values, held.max(1, keepdim=True).values
    scale = ((2**bits - 1) / (high - low)).clamp(max=2e4)
    zero, beta, best = -low * scale, 10.0, 1e4
    for _ in range(20):
        codes = (held * scale + zero).round().clamp(0, 2**bits - 1)
        rest = held - (codes - zero) / scale
        kept = rest.sign() * torch.relu(rest.abs() - rest.abs().pow(0.7 - 1) / beta)
        zero = (codes - (held - kept) * scale).mean(1, keepdim=True)
        beta *= kappa
        if float(rest.abs().mean()) >= best:
            break
        best = float(rest.abs().mean())
    codes = (held * scale + zero).round().clamp(0, 2**bits - 1)
    return ((codes - zero) / scale).reshape(weight.shape)


def ratios(layer: layers.Layer, after: torch.Tensor, before: torch.Tensor) -> list[float]:
    """sum |.|^0.7, squared error and output error, each over that of the start."""
    gram, sums = layer.inputs.double().T @ layer.inputs.double(), []
    for dense in (after, before):
        error = (dense - layer.weight).double()
        sums.append(torch.stack([error.abs().pow(0.7).sum(), error.square().sum(), ((error @ gram) * error).sum()]))
    return (sums[0] / sums[1]).tolist()


@pytest.mark.parametrize(
    ("bits", "figures"), [(4, (0.980, 0.921, 0.904)), (3, (0.980, 0.922, 0.967)), (2, (0.957, 0.852, 0.848))]
)
def test_the_figures_of_layer_s(layer_s: layers.Layer, bits: int, figures: tuple[float, ...]):
    start = hqq(layer_s.weight, bits=bits, group_size=64, iterations=0).dequantize()
    after = hqq(layer_s.weight, bits=bits, group_size=64).dequantize()
    for ours, figure in zip(ratios(layer_s, after, start), figures, strict=True):
        assert ours == pytest.approx(figure, abs=0.006)  # fp16 zero points move the third digit


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("large", [1.0, 40.0])
def test_it_is_the_published_loop_but_for_fp16(layer_s: layers.Layer, bits: int, large: float):
    """Weights of 40 times the usual size come into the reach of the shrinking."""
    weight = layer_s.weight[:64] * large
    ours, theirs = hqq(weight, bits=bits, group_size=64).dequantize(), published(weight, bits)
    away, error = (ours - theirs).abs().mean(), (theirs - weight).abs().mean()
    assert float(away) < (0.5 if bits == 8 else 0.05) * float(error)  # a zero point near 128 is held to 1/8 of a step
    assert float((ours - weight).norm()) == pytest.approx(float((theirs - weight).norm()), rel=0.01)


def test_kappa_and_the_shrinking_count_for_large_weights_alone(layer_s: layers.Layer):
    small, large = layer_s.weight[:32], 40 * layer_s.weight[:32]
    for weight, same in ((small, True), (large, False)):
        plain = hqq(weight, bits=2, group_size=64).dequantize()
        assert torch.equal(plain, hqq(weight, bits=2, group_size=64, kappa=1.05).dequantize()) == same
        assert torch.equal(plain, hqq(weight, bits=2, group_size=64, norm=1.0).dequantize()) == same


def test_a_step_on_small_weights_is_the_least_squares_zero_point(layer_s: layers.Layer):
    weight = layer_s.weight[:16]
    first, second = (hqq(weight, bits=3, group_size=64, iterations=count) for count in (0, 1))
    residual = weight - first.dequantize()
    moved = first.zero.float() - residual.reshape(16, 8, 64).mean(2) / first.scale.float()
    torch.testing.assert_close(second.zero.float(), moved, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_best_zero_point_never_has_more_absolute_error_than_the_start_in_any_group(
    layer_s: layers.Layer, bits: int
):
    weight = layer_s.weight
    errors = {
        name: (hqq(weight, bits=bits, group_size=64, **options).dequantize() - weight).abs().reshape(-1, 64).mean(1)
        for name, options in {"start": {"iterations": 0}, "best": {"keep": "best"}, "last": {}}.items()
    }
    assert bool((errors["best"] <= errors["start"] * (1 + 1e-6)).all())
    assert float(errors["best"].mean()) < float(errors["last"].mean())
    assert not bool((errors["last"] <= errors["start"]).all())  # as released, some groups end worse


def test_size_and_zero_points():
    weight = 0.02 * torch.randn(128, 2048, generator=torch.Generator().manual_seed(0))
    held = hqq(weight, bits=4, group_size=64)
    assert held.stored_bits == 4.5
    assert held.nominal_bits == 4
    assert held.zero.dtype == held.scale.dtype == torch.float16
    assert float((held.zero.float() % 1).mean()) == pytest.approx(0.5, abs=0.1)  # no integers
    assert hqq(weight, bits=3, group_size=32).stored_bits == 4.0


def test_values_are_exactly_code_less_zero_times_scale(layer_s: layers.Layer):
    held = hqq(layer_s.weight, bits=3, group_size=64)
    scale, zero = (part.double().repeat_interleave(64, dim=1) for part in (held.scale, held.zero))
    torch.testing.assert_close(held.dequantize().double(), (held.codes() - zero) * scale, rtol=2**-22, atol=0)


def test_groups_of_rows_are_the_groups_of_the_transposed_weight(layer_s: layers.Layer):
    weight = layer_s.weight[:, :100]
    held = hqq(weight, bits=3, group_size=64, groups="out")
    assert held.shape == (256, 100)
    assert torch.equal(held.dequantize(), hqq(weight.T.contiguous(), bits=3, group_size=64).dequantize().T)
    assert held.stored_bits == 3.5


def test_groups_that_are_constant_zero_one_sided_or_far_from_zero():
    weight = torch.zeros(5, 96)
    weight[1], weight[2] = 0.37, -250.0
    weight[3] = torch.linspace(0.5, 0.6, 96)
    weight[4] = 1e6
    for keep in ("last", "best"):
        dense = hqq(weight, bits=4, group_size=64, keep=keep).dequantize()
        torch.testing.assert_close(dense[[0, 1, 2, 4]], weight[[0, 1, 2, 4]], rtol=2**-10, atol=0)
        assert float((dense[3] - weight[3]).abs().max()) < 0.1 / 15  # the span alone counts, not the way to zero


def test_scales_beyond_fp16_are_refused():
    with pytest.raises(WorkbenchError, match=r"a scale of .* is beyond fp16"):
        hqq(torch.tensor([[-1e6, 1e6]]), bits=2, group_size=-1)
