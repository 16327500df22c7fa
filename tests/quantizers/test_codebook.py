"""Codebooks: levels that k-means cannot improve, weights that count, and tables that are counted."""

from __future__ import annotations

import layers
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.quantizers.codebook import codebook


def squared(layer: layers.Layer, **options: object) -> float:
    error = codebook(layer.weight, layer.statistics, **options).dequantize() - layer.weight  # type: ignore[arg-type]
    return float(error.double().square().sum())


def test_a_gaussian_gets_the_levels_of_lloyd_and_max():
    """Max 1960: the best four levels of a Gaussian are -1.510, -0.4528, 0.4528, 1.510, its distortion 0.1175."""
    make = torch.Generator().manual_seed(0)
    weight = 0.02 * torch.randn(64, 4096, generator=make)
    held = codebook(weight, bits=2, table="matrix")
    levels = held.table.double().flatten() / 0.02
    torch.testing.assert_close(
        levels, torch.tensor([-1.510, -0.4528, 0.4528, 1.510], dtype=torch.float64), rtol=0, atol=0.01
    )
    error = (held.dequantize() - weight).double().square().mean() / weight.double().square().mean()
    assert float(error) == pytest.approx(0.1175, rel=0.01)


@pytest.mark.parametrize("clustering", ["lloyd", "exact"])
@pytest.mark.parametrize("bits", [1, 2, 3])
def test_every_level_is_the_mean_of_its_weights_and_every_weight_has_the_nearest_level(
    layer_s: layers.Layer, clustering: str, bits: int
):
    weight = layer_s.weight[:16]
    held = codebook(weight, bits=bits, clustering=clustering)  # type: ignore[arg-type]
    codes, table = held.codes().long(), held.table.double()
    nearest = (table.unsqueeze(1) - weight.double().unsqueeze(2)).abs().amin(2)
    torch.testing.assert_close((held.dequantize() - weight).abs().double(), nearest, rtol=1e-5, atol=1e-9)
    member = torch.nn.functional.one_hot(codes, 2**bits).double()
    mean = (member * weight.double().unsqueeze(2)).sum(1) / member.sum(1)
    used = member.sum(1) > 0
    away = (mean - table)[used].abs() / weight.std()
    assert float(away.max()) < (0.02 if clustering == "exact" else 0.2)  # Lloyd is stopped after 50 steps


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_more_tables_and_the_optimum_do_better(layer_s: layers.Layer, bits: int):
    given = ({}, {"table": "matrix"}, {"clustering": "exact"})
    rows, matrix, exact = (squared(layer_s, bits=bits, **options) for options in given)
    assert exact < rows
    assert exact < matrix


def test_weights_of_the_inputs_lower_the_weighted_error(layer_s: layers.Layer):
    energy = layer_s.statistics.sum_sq.double()
    plain, weighted = (
        codebook(layer_s.weight, layer_s.statistics, bits=3, weighting=name, clustering="exact").dequantize()
        for name in ("none", "inputs")
    )
    errors = [((dense - layer_s.weight).double().square() * energy).sum() for dense in (plain, weighted)]
    assert float(errors[1]) < 0.5 * float(errors[0])


def test_dead_inputs_do_not_draw_levels(layer_s: layers.Layer, statistics_of):
    inputs = layer_s.inputs.clone()
    inputs[:, 100:] = 0
    held = codebook(layer_s.weight, statistics_of(inputs), bits=2, weighting="inputs", clustering="exact")
    alone = codebook(
        layer_s.weight[:, :100].contiguous(), statistics_of(inputs[:, :100]), bits=2, weighting="inputs",
        clustering="exact",
    )  # fmt: skip
    torch.testing.assert_close(held.table, alone.table)


def test_tables_are_counted():
    weight = torch.randn(32, 2048, generator=torch.Generator().manual_seed(1))
    assert codebook(weight, bits=3).stored_bits == 3 + 16 * 8 / 2048
    assert codebook(weight, bits=3).nominal_bits == 3 + 16 * 8 / 2048
    assert codebook(weight, bits=3, table="matrix").stored_bits == 3 + 16 * 8 / weight.numel()


def test_statistics_are_asked_for_only_where_they_are_read():
    weight = torch.randn(4, 32)
    with pytest.raises(WorkbenchError, match="needs statistics of the inputs"):
        codebook(weight, None, bits=2, weighting="inputs")
    with pytest.raises(WorkbenchError, match="do not fit"):
        codebook(weight, layers.site_statistics(torch.randn(9, 31)), bits=2, weighting="inputs")
    with pytest.raises(WorkbenchError, match="choose one of: 1, 2, 3, 4"):
        codebook(weight, None, bits=8)
