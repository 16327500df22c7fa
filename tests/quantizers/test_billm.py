"""BiLLM: the searches against every candidate tried one by one, the layer's figures, what is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import layers
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.model.sites import SiteStatistics
from workbench.quantizers.arithmetic.binarization import binarize
from workbench.quantizers.arithmetic.structure_search import best_break, best_count
from workbench.quantizers.billm import billm
from workbench.quantizers.output_optimal_binary import output_optimal_binary
from workbench.quantizers.weights.binary import StructuredBinaryWeight

Statistics = Callable[[torch.Tensor], SiteStatistics]


def masked(x: torch.Tensor, members: torch.Tensor, terms: int, centred: bool) -> torch.Tensor:
    """Binary terms of each row over its members, zero elsewhere: the pseudo-code of the design, section 29."""
    total, count = torch.zeros_like(x), members.sum(1, keepdim=True).clamp(min=1)
    for _ in range(terms):
        rest = (x - total) * members
        mean = rest.sum(1, keepdim=True) / count * centred
        size = ((rest - mean).abs() * members).sum(1, keepdim=True) / count
        total = total + (torch.where(rest - mean >= 0, size, -size) + mean) * members
    return total


def salience_like(rows: int, columns: int, signed: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows + columns)
    x = torch.randn(rows, columns, generator=generator) * torch.exp(torch.randn(columns, generator=generator))
    return x if signed else x.square()


def error(layer: layers.Layer, held: Any) -> float:
    assert layer.statistics.gram is not None
    lost = layer.weight.double() - held.dequantize().double()
    return float(((lost @ layer.statistics.gram.double()) * lost).sum())


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("signed", [True, False])
def test_the_count_of_columns_is_the_best_of_all(terms: int, centred: bool, signed: bool) -> None:
    x = salience_like(20, 70, signed)
    order = x.abs().sum(0).argsort(descending=True)
    errors = []
    for count in range(1, 50):
        members = torch.zeros(20, 70, dtype=torch.bool)
        members[:, order[:count]] = True
        both = masked(x.double(), members, terms, centred) + masked(x.double(), ~members, terms, centred)
        errors.append(float((x.double() - both).square().sum()))
    found = best_count(x, order, 49, terms=terms, centred=centred)
    assert errors[found - 1] <= min(errors) * (1 + 1e-6)
    assert max(errors) > 1.01 * min(errors)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shape", [(20, 70), (1, 3), (200, 1)], ids=str)
def test_the_break_is_the_best_of_81_percentiles(centred: bool, signed: bool, shape: tuple[int, int]) -> None:
    x = salience_like(*shape, signed)
    points = torch.quantile(x.abs().double().flatten(), torch.linspace(0.1, 0.9, 81, dtype=torch.float64))

    def lost(point: float) -> float:
        small = x.abs() < point
        both = masked(x.double(), small, 1, centred) + masked(x.double(), ~small, 1, centred)
        return float((x.double() - both).square().sum())

    found = best_break(x, centred=centred)
    assert float((points - found).abs().min()) <= 1e-6 * float(points.max())
    assert lost(found) <= min(lost(float(point)) for point in points.float()) * (1 + 1e-6) + 1e-12


def test_each_term_lowers_the_weight_error_as_measured(layer_s: layers.Layer) -> None:
    everything, rest, errors = torch.ones_like(layer_s.weight, dtype=torch.bool), layer_s.weight.double(), []
    for _ in range(3):
        rest = rest - binarize(rest, everything, centred=True).values()
        errors.append(float(rest.square().sum() / layer_s.weight.double().square().sum()))
    assert errors == pytest.approx([0.4586, 0.2204, 0.1388], abs=2e-4)
    gaussian = torch.randn(64, 4096, generator=torch.Generator().manual_seed(0)).double()
    lost = gaussian - binarize(gaussian, torch.ones_like(gaussian, dtype=torch.bool), centred=True).values()
    assert float(lost.square().mean()) == pytest.approx(1 - 2 / torch.pi, rel=0.01)


@pytest.mark.parametrize("point", [0.001, 0.01, 0.02, 0.05, 10.0])
def test_parting_by_size_never_hurts_without_means(layer_s: layers.Layer, point: float) -> None:
    w = layer_s.weight.double()
    small = w.abs() < point
    parts = [(mask, binarize(w, mask, centred=False).values()) for mask in (small, ~small)]
    whole = binarize(w, torch.ones_like(small), centred=False).values()
    lost = sum(((w - values) * mask).square().sum(1) for mask, values in parts)
    assert bool((lost <= (w - whole).square().sum(1) * (1 + 1e-5)).all())  # fp16 magnitudes, hence not exactly


@pytest.mark.parametrize(
    ("search", "compensation", "expected"),
    [
        ("salience", "exact", 136.7),
        ("salience", "diagonal", 140.9),
        ("salience", "none", 144.0),
        ("weights", "exact", 254.9),
        ("weights", "diagonal", 256.3),
        ("weights", "none", 298.0),
    ],
)
def test_output_errors_of_layer_s(layer_s: layers.Layer, search: Any, compensation: Any, expected: float) -> None:
    """The design's figures on salience; on weights our own, because the design's came of another count of terms."""
    held = billm(layer_s.weight, layer_s.statistics, search=search, compensation=compensation)
    assert error(layer_s, held) == pytest.approx(expected, rel=6e-3)
    salient = float(held.salient_columns.float().mean())
    assert salient == pytest.approx(0.031, abs=1e-3) if search == "salience" else salient > 0.1


def test_it_beats_plain_row_binarization_by_far(layer_s: layers.Layer) -> None:
    plain = output_optimal_binary(layer_s.weight, None, magnitude="mean")
    assert error(layer_s, billm(layer_s.weight, layer_s.statistics)) < 0.2 * error(layer_s, plain)


@pytest.mark.parametrize("most_salient", [2, 5, 50, 128])
@pytest.mark.parametrize("search", ["salience", "weights"])
def test_every_block_has_a_salient_column_but_not_too_many(
    layer_s: layers.Layer, most_salient: int, search: Any
) -> None:
    held = billm(layer_s.weight, layer_s.statistics, most_salient=most_salient, search=search)
    counts = held.salient_columns.reshape(4, 128).sum(1)
    assert bool(((counts >= 1) & (counts <= most_salient - 1)).all())


@pytest.mark.parametrize(("centred", "bits"), [(True, 3.0), (False, 2.5)])
def test_stored_bits_do_not_depend_on_the_salient_share(layer_s: layers.Layer, centred: bool, bits: float) -> None:
    held = billm(layer_s.weight, layer_s.statistics, centred=centred)
    assert held.stored_bits == pytest.approx(bits + 1 / 256)
    assert held.nominal_bits == pytest.approx(1 + int(held.salient_columns.sum()) / 512)
    assert torch.equal(held.dequantize(torch.bfloat16), held.dequantize().bfloat16())


def test_values_are_those_of_the_sets_it_stores(layer_s: layers.Layer) -> None:
    """Without compensation every set of a block is mean and magnitude of the weights themselves."""
    held = billm(layer_s.weight, layer_s.statistics, compensation="none")
    w, values, salient = layer_s.weight.double(), held.dequantize().double(), held.salient_columns
    for start in range(0, 512, 128):
        block = slice(start, start + 128)
        of_column = salient[block].expand(256, 128)
        twice = masked(w[:, block], of_column, 2, True)
        levels = [len(values[0, block][~salient[block]].unique()), len(values[0, block][salient[block]].unique())]
        assert levels[0] <= 4
        assert levels[1] <= 4
        differ = (values[:, block][of_column] - twice[of_column]).abs() > 1e-4
        assert float(differ.double().mean()) < 0.02  # of few columns some residuals are 0 up to the rounding to fp16


def test_dead_columns_count_for_nothing(statistics_of: Statistics) -> None:
    generator = torch.Generator().manual_seed(4)
    inputs, weight = torch.randn(300, 40, generator=generator), torch.randn(9, 40, generator=generator)
    inputs[:, [3, 17, 39]] = 0
    stats, other = statistics_of(inputs), weight.clone()
    other[:, [3, 17, 39]] = 50.0
    one, two = (billm(w, stats, group_size=16) for w in (weight, other))
    live = [column for column in range(40) if column not in (3, 17, 39)]
    assert torch.equal(one.dequantize()[:, live], two.dequantize()[:, live])
    assert not bool(one.salient_columns[[3, 17, 39]].any())
    assert bool(one.salient_columns[32:].any())  # the short last block has its search too


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (2, 129), (4, 7)], ids=str)
def test_narrow_blocks(statistics_of: Statistics, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(8)
    weight = torch.randn(shape, generator=generator)
    held = billm(weight, statistics_of(torch.randn(400, shape[1], generator=generator)), group_size=128)
    assert isinstance(held, StructuredBinaryWeight)
    assert held.shape == shape
    lost = (weight - held.dequantize()).square().sum()
    assert float(lost) < 0.5 * float(weight.square().sum())


def test_bad_inputs_are_refused(layer_s: layers.Layer) -> None:
    with pytest.raises(WorkbenchError, match="needs the Gram matrix"):
        billm(layer_s.weight)
    with pytest.raises(WorkbenchError, match="beyond fp16"):
        billm(layer_s.weight * 1e8, layer_s.statistics)
