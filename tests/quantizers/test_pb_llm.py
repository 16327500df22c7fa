"""PB-LLM: its closed forms, its counts, and a sweep written out step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import layers
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.model.sites import SiteStatistics
from workbench.quantizers.pb_llm import pb_llm
from workbench.quantizers.weights.partly_binary import PartlyBinaryWeight, where_salient

Statistics = Callable[[torch.Tensor], SiteStatistics]


@pytest.fixture(scope="module")
def small() -> layers.Layer:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(200, 24, generator=generator) @ torch.randn(24, 24, generator=generator)
    return layers.Layer(torch.randn(10, 24, generator=generator), inputs, layers.site_statistics(inputs))


def error(layer: layers.Layer, **options: Any) -> float:
    held = pb_llm(layer.weight, layer.statistics, **options)
    assert layer.statistics.gram is not None
    lost = layer.weight.double() - held.dequantize().double()
    return float(((lost @ layer.statistics.gram.double()) * lost).sum())


def sweep_by_hand(layer: layers.Layer, rounded: Callable[[torch.Tensor, int], torch.Tensor]) -> torch.Tensor:
    """GPTQ column by column with the full inverse, one elimination a column, float64."""
    assert layer.statistics.gram is not None
    hessian = 2 * layer.statistics.gram.double()
    inverse = torch.linalg.inv(hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian)))
    w, q = layer.weight.double().clone(), torch.empty(layer.weight.shape, dtype=torch.float64)
    for j in range(w.shape[1]):
        q[:, j] = rounded(w[:, j], j)
        w -= torch.outer((w[:, j] - q[:, j]) / inverse[j, j], inverse[j])
        inverse = inverse - torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return q


def eight_bits(w: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The 8-bit grid of each row, zero inside its range, with an fp16 step."""
    low, high = w.amin(1).clamp(max=0), w.amax(1).clamp(min=0)
    step = ((high - low) / 255).half().double()
    zero = torch.round(-low / step)
    return lambda column: (torch.clamp(torch.round(column / step) + zero, 0, 255) - zero) * step


def test_signs_alone_have_the_closed_form_error(layer_s: layers.Layer) -> None:
    """About the mean: |w - mu|^2 - |w - mu|_1^2 / n of each row."""
    held = pb_llm(layer_s.weight, layer_s.statistics, salient=0.0, compensate=False)
    w = layer_s.weight.double()
    centred = w - w.mean(1, keepdim=True)
    lost = (w - held.dequantize().double()).square().sum(1)
    expected = centred.square().sum(1) - centred.abs().sum(1).square() / 512
    torch.testing.assert_close(lost, expected, rtol=1e-5, atol=0)
    assert float(lost.sum() / w.square().sum()) == pytest.approx(0.4586, abs=1e-4)


@pytest.mark.parametrize("criterion", ["magnitude", "hessian"])
@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.07, 17), (0.1, 24), (0.5, 120), (1.0, 240)])
def test_exactly_the_share_is_salient_even_with_ties(small: layers.Layer, criterion: Any, share: float, count: int):
    weight = small.weight.round()  # many equal weights
    held = pb_llm(weight, small.statistics, salient=share, criterion=criterion)
    assert int(held.salient.sum()) == held.codes.numel() == count
    assert held.nominal_bits == pytest.approx((1 - count / 240) + 8 * count / 240 + 1)
    if criterion == "magnitude" and 0 < count < 240:
        assert float(weight.abs()[held.salient].min()) >= float(weight.abs()[~held.salient].max())


def test_the_hessian_criterion_is_the_cost_of_removal_once_earlier_columns_are_gone(small: layers.Layer) -> None:
    """w^2 over the squared inverse-Hessian diagonal of what is left: column by column with a float64 inverse."""
    assert small.statistics.gram is not None
    hessian = 2 * small.statistics.gram.double()
    hessian += 0.01 * hessian.diagonal().mean() * torch.eye(24)
    left = torch.stack([torch.linalg.inv(hessian[j:, j:])[0, 0] for j in range(24)])
    scores = small.weight.double().square() / left
    expected = torch.zeros(240, dtype=torch.bool)
    expected[scores.flatten().topk(72).indices] = True
    held = pb_llm(small.weight, small.statistics, salient=0.3)
    assert torch.equal(held.salient.flatten(), expected)


def test_all_salient_is_gptq_with_8_bits(small: layers.Layer) -> None:
    grid = eight_bits(small.weight.double())
    expected = sweep_by_hand(small, lambda column, _: grid(column))
    held = pb_llm(small.weight, small.statistics, salient=1.0)
    torch.testing.assert_close(held.dequantize().double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", ["code", "masked"])
def test_the_mixed_sweep_step_by_step(small: layers.Layer, alpha: Any) -> None:
    held = pb_llm(small.weight, small.statistics, salient=0.3, alpha=alpha, criterion="magnitude")
    w = small.weight.double()
    keep = w.abs() >= w.abs().flatten().sort().values[-72]
    count = 24.0 if alpha == "code" else (~keep).sum(1)
    mean = ((w * ~keep).sum(1) / count).half().double()
    distance = ((w * ~keep) - mean.unsqueeze(1)).abs()
    size = ((distance if alpha == "code" else distance * ~keep).sum(1) / count).half().double()
    grid = eight_bits(w)
    expected = sweep_by_hand(
        small, lambda c, j: torch.where(keep[:, j], grid(c), torch.where(c >= mean, size, -size) + mean)
    )
    torch.testing.assert_close(held.dequantize().double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("share", "code", "masked"), [(0.5, 2.62, 4.35), (0.3, 11.37, 16.70), (0.1, 52.83, 59.10)])
def test_output_errors_of_layer_s(layer_s: layers.Layer, share: float, code: float, masked: float) -> None:
    """The design's figures; the magnitude that is best for the outputs beats both."""
    found = error(layer_s, salient=share)
    assert found == pytest.approx(code, rel=3e-3)
    assert error(layer_s, salient=share, alpha="masked") == pytest.approx(masked, rel=3e-3)
    assert error(layer_s, salient=share, alpha="output") < 0.96 * found


def test_without_compensation_the_error_falls_with_the_share(layer_s: layers.Layer) -> None:
    errors = [error(layer_s, salient=share, compensate=False) for share in (0.0, 0.1, 0.3, 0.5, 0.9, 1.0)]
    assert errors == sorted(errors, reverse=True)
    grid = eight_bits(layer_s.weight.double())
    rounded = torch.stack([grid(column) for column in layer_s.weight.double().T], 1)
    held = pb_llm(layer_s.weight, layer_s.statistics, salient=1.0, compensate=False)
    torch.testing.assert_close(held.dequantize().double(), rounded, rtol=0, atol=1e-6)
    assert error(layer_s, salient=0.1) < 0.85 * error(layer_s, salient=0.1, compensate=False)


def test_no_other_magnitude_does_better_than_output(layer_s: layers.Layer) -> None:
    held = pb_llm(layer_s.weight, layer_s.statistics, salient=0.2, alpha="output", compensate=False)
    assert layer_s.statistics.gram is not None
    gram, values = layer_s.statistics.gram.double(), held.dequantize().double()
    lost = layer_s.weight.double() - values
    found = ((lost @ gram) * lost).sum(1)
    signs = ((values > held.mean.double().unsqueeze(1)) * 2.0 - 1).double() * ~held.salient
    assert bool((held.magnitude > 0).all())
    for change in (-2e-3, -5e-4, 5e-4, 2e-3):
        other = lost + change * signs
        assert bool((((other @ gram) * other).sum(1) >= found * (1 - 1e-9)).all())


@pytest.mark.parametrize(("share", "bits"), [(0.1, 2.731), (0.05, 2.197)])
def test_bits_of_a_matrix_of_2048_square(share: float, bits: float) -> None:
    """(1-r) + 8r + 64/I, and a bitmap's 1 or 16 bits a salient weight with 32 a row: the design's table."""
    weight = torch.randn(2048, 2048, generator=torch.Generator().manual_seed(0))
    vector = torch.ones(2048)
    stats = SiteStatistics(2048, vector, vector, vector, vector, torch.eye(2048))
    held = pb_llm(weight, stats, salient=share, compensate=False)
    assert held.stored_bits == pytest.approx(bits, abs=5e-4)
    assert held.nominal_bits == pytest.approx(2 + 7 * share, abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.004, 0.3, 1.0])
def test_bitmap_and_columns_say_the_same(small: layers.Layer, share: float) -> None:
    held: list[PartlyBinaryWeight] = [
        pb_llm(small.weight, small.statistics, salient=share, index=index) for index in ("bitmap", "sparse", "smallest")
    ]
    assert torch.equal(held[0].dequantize(), held[1].dequantize())
    assert held[2].nbytes == min(held[0].nbytes, held[1].nbytes)
    assert torch.equal(held[0].dequantize(torch.bfloat16), held[0].dequantize().bfloat16())


def test_columns_beyond_the_16th_bits_sign_come_back() -> None:
    mask = torch.zeros(2, 65_536, dtype=torch.bool)
    mask[0, 65_535], mask[1, 32_768], mask[1, 3] = True, True, True
    fields = where_salient(mask, "sparse")
    one, codes = torch.ones(2), torch.zeros(3, dtype=torch.uint8)
    signs, grid = torch.zeros(1, dtype=torch.uint8), one.half().unsqueeze(1)
    held = PartlyBinaryWeight(signs, codes, grid, grid.short(), one.half(), one.half(), size=(2, 65_536), **fields)
    assert torch.equal(held.salient, mask)
    with pytest.raises(WorkbenchError, match="too few for 65537 columns"):
        where_salient(torch.zeros(1, 65_537, dtype=torch.bool), "sparse")


def test_dead_columns_are_not_salient_and_bad_inputs_are_refused(statistics_of: Statistics) -> None:
    generator = torch.Generator().manual_seed(9)
    inputs, weight = torch.randn(100, 12, generator=generator), torch.randn(6, 12, generator=generator)
    inputs[:, 4] = 0
    stats = statistics_of(inputs)
    held = pb_llm(weight, stats, salient=0.3)
    assert not bool(held.salient[:, 4].any())
    with pytest.raises(WorkbenchError, match="choose -1"):
        pb_llm(weight, stats, group_size=4)
    with pytest.raises(WorkbenchError, match="needs the Gram matrix"):
        pb_llm(weight)
