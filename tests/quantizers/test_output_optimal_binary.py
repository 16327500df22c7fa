"""Binary rows: closed forms against sums by hand, float64 scans and a least-squares solver."""

from __future__ import annotations

from collections.abc import Callable

import layers
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.model.sites import SiteStatistics
from workbench.quantizers.output_optimal_binary import output_optimal_binary
from workbench.quantizers.weight import QuantizedWeight

Statistics = Callable[[torch.Tensor], SiteStatistics]


def output_error(layer: layers.Layer, values: torch.Tensor) -> torch.Tensor:
    """1/2 (w - q) H (w - q)^T of each row with H = 2 G, float64."""
    assert layer.statistics.gram is not None
    lost = layer.weight.double() - values.double()
    return ((lost @ layer.statistics.gram.double()) * lost).sum(1)


def total_error(layer: layers.Layer, held: QuantizedWeight) -> float:
    return float(output_error(layer, held.dequantize()).sum())


def test_the_mean_magnitude_is_plain_row_binarization(layer_s: layers.Layer) -> None:
    """Its weight error is the closed form |w|^2 - |w|_1^2 / n of each row."""
    held = output_optimal_binary(layer_s.weight, None, magnitude="mean")
    w = layer_s.weight.double()
    lost = (w - held.dequantize().double()).square().sum(1)
    torch.testing.assert_close(lost, w.square().sum(1) - w.abs().sum(1).square() / 512, rtol=1e-6, atol=0)
    assert set(held.tensors()) == {"sign", "magnitude"}
    assert held.stored_bits == pytest.approx(1 + 16 / 512)
    assert held.nominal_bits == 1


def test_it_takes_a_third_off_the_output_error_of_layer_s(layer_s: layers.Layer) -> None:
    plain = output_optimal_binary(layer_s.weight, None, magnitude="mean")
    best = output_optimal_binary(layer_s.weight, layer_s.statistics)
    assert total_error(layer_s, plain) == pytest.approx(790.2, rel=1e-3)
    assert total_error(layer_s, best) == pytest.approx(520.9, rel=1e-3)
    assert torch.equal(best.dequantize() >= 0, plain.dequantize() >= 0)


def test_no_other_magnitude_of_a_fine_scan_does_better(layer_s: layers.Layer) -> None:
    part = layers.Layer(layer_s.weight[:32], layer_s.inputs, layer_s.statistics)
    held = output_optimal_binary(part.weight, part.statistics)
    found, signs = output_error(part, held.dequantize()), torch.where(part.weight >= 0, 1.0, -1.0)
    scan = torch.stack([output_error(part, size * signs) for size in torch.linspace(-0.1, 0.1, 1001).tolist()])
    assert bool((found <= scan.amin(0) * (1 + 1e-6)).all())
    assert float((found / scan.amin(0)).min()) > 0.99  # the scan is fine and wide enough to mean something


@pytest.mark.parametrize("centred", [False, True])
def test_magnitudes_of_several_groups_solve_the_least_squares_of_the_outputs(centred: bool) -> None:
    """Against numpy's solver on the outputs themselves, with a short last group."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(300, 40, generator=generator) @ torch.randn(40, 40, generator=generator)
    weight = torch.randn(5, 40, generator=generator) + 0.3
    held = output_optimal_binary(weight, layers.site_statistics(inputs), group_size=16, centred=centred)
    values, x, group = held.dequantize().double(), inputs.double(), torch.arange(40) // 16
    for row, w in enumerate(weight.double()):
        means = torch.stack([w[group == g].mean() for g in range(3)])[group] * centred
        signs = torch.where(w - means >= 0, 1.0, -1.0).double()
        columns = [x @ (signs * (group == g)) for g in range(3)]
        columns += [x @ (group == g).double() for g in range(3)] if centred else []
        least = torch.linalg.lstsq(torch.stack(columns, 1), (x @ w).unsqueeze(1), driver="gelsd").solution
        best = (x @ w - torch.stack(columns, 1) @ least.squeeze(1)).square().sum()
        assert float((x @ (w - values[row])).square().sum()) == pytest.approx(float(best), rel=1e-4)


def test_more_freedom_never_hurts(layer_s: layers.Layer) -> None:
    """Magnitudes of finer groups include those of coarser ones, at equal signs."""
    errors = [
        total_error(layer_s, output_optimal_binary(layer_s.weight, layer_s.statistics, group_size=size))
        for size in (-1, 128, 32)
    ]
    assert errors == sorted(errors, reverse=True)
    centred = output_optimal_binary(layer_s.weight, layer_s.statistics, centred=True)
    assert total_error(layer_s, centred) < errors[0]
    assert centred.stored_bits == pytest.approx(1 + 32 / 512)


def test_a_negative_magnitude_turns_the_signs(statistics_of: Statistics) -> None:
    """All inputs alike: the signs answer 2 - 1 + 1 = 2 and the weight 6 - 10 + 0.5 = -3.5, so -1.75 is exact."""
    inputs = torch.tensor([[2.0, -1.0, -1.0]]).repeat(4, 1)
    held = output_optimal_binary(torch.tensor([[3.0, 10.0, -0.5]]), statistics_of(inputs))
    assert held.dequantize().tolist() == [[-1.75, -1.75, 1.75]]
    assert held.binary.magnitude.tolist() == [[[1.75]]]


def test_where_the_inputs_say_nothing_the_mean_stays(statistics_of: Statistics) -> None:
    inputs = torch.randn(50, 8, generator=torch.Generator().manual_seed(2))
    inputs[:, 4:] = 0
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0, 3.0, -1.0, 0.0, -2.0], [0.0] * 8])
    held = output_optimal_binary(weight, statistics_of(inputs), group_size=4)
    assert held.dequantize()[0, 4:].tolist() == [1.5, -1.5, 1.5, -1.5]
    assert held.dequantize()[1].tolist() == [0.0] * 8
    assert held.binary.planes[0].shape == (2, 2)


def test_bad_inputs_are_refused(layer_s: layers.Layer, statistics_of: Statistics) -> None:
    with pytest.raises(WorkbenchError, match="needs the Gram matrix"):
        output_optimal_binary(layer_s.weight, None)
    with pytest.raises(WorkbenchError, match="choose"):
        output_optimal_binary(layer_s.weight, layer_s.statistics, group_size=0)
    with pytest.raises(WorkbenchError, match="beyond fp16"):
        output_optimal_binary(torch.full((2, 4), 1e6), None, magnitude="mean")
