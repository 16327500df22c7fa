"""What PTQ1.61 stores: its closed form, its mask on the design's layer, and the bits of the design's table."""

from __future__ import annotations

from dataclasses import replace

import layers
import pytest
import torch

from workbench.ordering import topk_mask
from workbench.quantizers.weights.salient_and_binary import lay_out


def gaussian(rows: int, columns: int) -> torch.Tensor:
    return 0.02 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns))


def some_columns(columns: int, count: int) -> torch.Tensor:
    return topk_mask(torch.rand(columns, generator=torch.Generator().manual_seed(columns)), count)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("grid", ["row", "salient"])
def test_what_is_laid_out_has_the_closed_form(centred: bool, grid: str):
    weight, mask = gaussian(6, 50), some_columns(50, 10)
    weight[2], weight[3, ~mask] = 0.0, 0.0
    held = lay_out(weight, mask, centred=centred, grid="row" if grid == "row" else "salient")
    dense = held.hold(held.start).dequantize().double()
    wide = weight.double()
    mean = wide[:, ~mask].mean(1, keepdim=True).half().double() if centred else torch.zeros(6, 1, dtype=torch.float64)
    magnitude = wide[:, ~mask].abs().mean(1, keepdim=True).half().double()
    sign = torch.where(wide - mean >= 0, 1.0, -1.0)
    torch.testing.assert_close(dense[:, ~mask], (mean + magnitude * sign)[:, ~mask], rtol=1e-6, atol=1e-9)
    reach = wide if grid == "row" else wide[:, mask]
    step = (reach.amax(1).clamp(min=0) - reach.amin(1).clamp(max=0)) / 15
    assert ((dense - wide)[:, mask].abs().amax(1) <= 0.51 * step + 1e-7).all()
    levels = dense[:, mask] / step.clamp(min=1e-12)[:, None]
    assert (levels - levels.round()).abs().max() < 0.02
    assert not dense[2].any()


def test_the_sign_of_zero_is_plus():
    weight = torch.tensor([[0.0, -1.0, 3.0, -2.0, 0.0]])
    held = lay_out(weight, torch.zeros(5, dtype=torch.bool), centred=False, grid="row")
    assert held.hold(held.start).dequantize().sign().tolist() == [[1.0, -1.0, 1.0, -1.0, 1.0]]


def test_inputs_choose_better_columns_than_weights_or_chance(layer_s: layers.Layer):
    """On the design's layer, half the squared output error a token: 119.3, 119.4, 119.4, 682.5 and 744.0."""
    weight, stats = layer_s.weight, layer_s.statistics
    assert stats.gram is not None
    gram, count = stats.gram.double(), round(0.2 * weight.shape[1])

    def error(scores: torch.Tensor, grid: str = "row") -> float:
        held = lay_out(weight, topk_mask(scores, count), centred=True, grid="row" if grid == "row" else "salient")
        change = (held.hold(held.start).dequantize() - weight).double()
        return float((change @ gram * change).sum())

    chance = torch.rand(weight.shape[1], generator=torch.Generator().manual_seed(0))
    largest, random = error(stats.max_abs), error(chance)
    assert largest == pytest.approx(119.3, rel=0.01)
    assert error(stats.mean_abs) == pytest.approx(119.4, rel=0.01)
    assert error(stats.sum_sq) == pytest.approx(119.4, rel=0.01)
    assert error(weight.norm(dim=0)) == pytest.approx(682.5, rel=0.02)
    assert largest < 0.5 * random
    assert error(stats.max_abs, "salient") == pytest.approx(89.1, rel=0.01)


@pytest.mark.parametrize(("rows", "columns"), [(2560, 2560), (512, 2560)])
def test_the_bits_are_those_of_the_table(rows: int, columns: int):
    mask = some_columns(columns, columns // 5)
    laid = lay_out(gaussian(rows, columns), mask, centred=True, grid="row")
    held = laid.hold(laid.start)
    codes = 4 * 0.2 + 0.8 + 1 / rows
    assert held.stored_bits == pytest.approx(codes + 32 / columns + 16 / rows + 48 / columns, abs=1e-9)
    named = held.tensors()
    counted = sum(one.nbytes for name, one in named.items() if name not in ("mean", "scale", "zero"))
    assert 8 * counted / (rows * columns) == pytest.approx(codes + 32 / columns + 16 / rows, abs=1e-9)
    without = replace(laid, mean=None)
    assert without.hold(laid.start).stored_bits == pytest.approx(held.stored_bits - 16 / columns, abs=1e-9)
    assert held.nominal_bits == pytest.approx(1.61)


@pytest.mark.parametrize(("figure", "left_out"), [(1.647, ()), (1.624, ("mean", "scale", "zero"))])
def test_a_layer_of_2048_costs_what_the_table_says(figure: float, left_out: tuple[str, ...]):
    """Up to the last byte of each row: 410 and 1638 columns fill no whole number of bytes."""
    laid = lay_out(gaussian(2048, 2048), some_columns(2048, round(0.2 * 2048)), centred=True, grid="row")
    counted = sum(one.nbytes for name, one in laid.hold(laid.start).tensors().items() if name not in left_out)
    assert 8 * counted / 2048**2 == pytest.approx(figure, abs=2e-3)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (4, 7)])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_small_matrices_and_none_salient(shape: tuple[int, int], share: float):
    weight = gaussian(*shape)
    mask = some_columns(shape[1], round(share * shape[1]))
    laid = lay_out(weight, mask, centred=True, grid="salient")
    held = laid.hold(laid.start)
    assert held.shape == shape
    torch.testing.assert_close(held.dequantize(), laid.dense(laid.start))
    assert torch.equal(held.dequantize(torch.bfloat16), held.dequantize().bfloat16())
