"""SliM-LLM: its widths against an exhaustive search, its ranges against one written out, its size on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import layers
import pytest
import torch
from slim_objectives import OBJECTIVES, distance

import lowbit
from workbench.errors import WorkbenchError
from workbench.linalg import inverse_cholesky
from workbench.model.sites import SiteStatistics
from workbench.quantizers.arithmetic.width_search import Objective, chosen_widths
from workbench.quantizers.gptq import gptq
from workbench.quantizers.slim_llm import slim_llm
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.mixed_widths import MixedWidthWeight

Statistics = Callable[[torch.Tensor], SiteStatistics]


def output_error(layer: layers.Layer, held: QuantizedWeight) -> float:
    assert layer.statistics.gram is not None
    lost = (layer.weight - held.dequantize()).double()
    return float((lost @ layer.statistics.gram.double() * lost).sum())


def by_definition(layer: layers.Layer, widths: tuple[int, ...], group_size: int, objective: Objective) -> float:
    """What a choice of widths costs on the sample, rounded group by group by the kernels."""
    rows = layer.inputs[:512].half().double()
    dense = lowbit.dequantize(lowbit.quantize_mixed(layer.weight, widths=widths, group_size=group_size))
    return distance(rows @ dense.double().T, rows @ layer.weight.double().T, objective)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("group_size", [128, 64, 100])
def test_the_widths_are_the_best_of_all_candidates(layer_s: layers.Layer, group_size: int, objective: Objective):
    layer_s = replace(layer_s, weight=layer_s.weight[:64])
    assert layer_s.statistics.gram is not None
    pivots = inverse_cholesky(layer_s.statistics.gram).upper.diagonal()
    salience = (layer_s.weight / pivots).square().sum(0)
    scores = torch.stack([part.sum() for part in salience.split(group_size)])
    order = scores.argsort().tolist()
    candidates = [chosen_widths(order, 3, count) for count in range(len(order) // 2 + 1)]
    best = min(candidates, key=lambda widths: by_definition(layer_s, widths, group_size, objective))
    held = slim_llm(layer_s.weight, layer_s.statistics, bits=3, group_size=group_size, objective=objective)
    assert held.widths == best
    uniform = by_definition(layer_s, (3,) * len(order), group_size, objective)
    assert by_definition(layer_s, held.widths, group_size, objective) <= uniform


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("group_size", [32, 64, 100, 128, 256, -1])
def test_the_mean_width_is_the_one_asked_for(layer_s: layers.Layer, bits: int, group_size: int):
    held = slim_llm(layer_s.weight[:64], layer_s.statistics, bits=bits, group_size=group_size, objective="mse")
    assert len(held.widths) == (1 if group_size == -1 else -(-512 // group_size))
    assert sum(held.widths) == bits * len(held.widths)
    assert set(held.widths) <= {bits - 1, bits, bits + 1}
    assert held.nominal_bits == bits


@pytest.mark.parametrize("salience", ["chol2", "hinv2"])
@pytest.mark.parametrize("bits", [2, 3])
def test_a_group_with_loud_inputs_has_a_bit_more(statistics_of: Statistics, salience: str, bits: int):
    generator = torch.Generator().manual_seed(6)
    weight, inputs = 0.02 * torch.randn(48, 256, generator=generator), torch.randn(600, 256, generator=generator)
    inputs[:, 96:128] *= 20
    held = slim_llm(weight, statistics_of(inputs), bits=bits, group_size=32, salience=salience, objective="mse")
    assert held.widths[3] == bits + 1


def test_at_weight_one_salience_plays_no_part(layer_s: layers.Layer):
    """Bit by bit: the released lambda is 1, whatever counts as salient."""
    held = [
        slim_llm(layer_s.weight, layer_s.statistics, bits=2, group_size=64, salience_weight=weight, threshold=threshold)
        for weight, threshold in ((1.0, 10.0), (1.0, 0.0), (10.0, 0.0))
    ]
    unweighted, same, other = ({name: t.tolist() for name, t in one.tensors().items()} for one in held)
    assert same == unweighted
    assert other != unweighted


def test_groups_of_one_bit_are_signs(layer_s: layers.Layer):
    held = slim_llm(layer_s.weight, layer_s.statistics, bits=2, group_size=128)
    assert held.widths == (1, 1, 3, 3)
    first = held.dequantize()[:, :128]
    size = layer_s.weight[:, :128].abs().mean(1).half().float()
    assert torch.equal(first.abs(), size[:, None].expand_as(first))
    assert float((first.sign() == layer_s.weight[:, :128].sign()).float().mean()) > 0.7


def test_it_beats_gptq_at_the_same_width(layer_s: layers.Layer):
    ours = slim_llm(layer_s.weight, layer_s.statistics, bits=2, group_size=128)
    plain = gptq(layer_s.weight, layer_s.statistics, bits=2, group_size=128)
    assert ours.stored_bits < plain.stored_bits
    assert output_error(layer_s, ours) < 0.4 * output_error(layer_s, plain)


@pytest.mark.parametrize("width", [2048, 4096])
def test_the_papers_size(width: int):
    """2.250 bits at N = 2 in groups of 128; every group of one bit stores a magnitude instead of scale and zero."""
    weight = torch.zeros(width, width, dtype=torch.bfloat16)
    held = MixedWidthWeight(lowbit.quantize_mixed(weight, widths=[2] * (width // 128), group_size=128), 2)
    assert held.stored_bits == pytest.approx(2 + 32 / 128 + 8 / (128 * width), abs=1e-9)
    assert round(held.stored_bits, 3) == 2.250


def test_its_size_is_counted_from_what_it_holds(layer_s: layers.Layer):
    held = slim_llm(layer_s.weight, layer_s.statistics, bits=2, group_size=128)
    share = held.widths.count(1) / len(held.widths)
    assert held.stored_bits == pytest.approx(2 + 32 / 128 - share * 16 / 128 + 8 / (128 * 256))
    again = MixedWidthWeight(**{field.name: getattr(held, field.name) for field in fields(held)})
    assert torch.equal(again.dequantize(torch.bfloat16), held.dequantize().bfloat16())


@pytest.mark.parametrize("symmetric", [False, True])
def test_dead_columns_become_zero_where_zero_is_a_level(statistics_of: Statistics, symmetric: bool):
    generator = torch.Generator().manual_seed(2)
    inputs, weight = torch.randn(300, 70, generator=generator), torch.randn(6, 70, generator=generator)
    inputs[:, [3, 40, 69]] = 0
    weight[2] = 0
    held = slim_llm(weight, statistics_of(inputs), bits=3, group_size=32, symmetric=symmetric).dequantize()
    assert not held[:, [3, 40, 69]].any()
    assert not held[2].any()


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_widths_without_neighbours_are_refused(layer_s: layers.Layer, bits: int):
    with pytest.raises(WorkbenchError, match="choose one of: 2, 3"):
        slim_llm(layer_s.weight, layer_s.statistics, bits=bits, group_size=64)


def test_without_a_sample_it_refuses(layer_s: layers.Layer):
    with pytest.raises(WorkbenchError, match="'sample_rows'"):
        slim_llm(layer_s.weight, replace(layer_s.statistics, sample_rows=None), bits=2, group_size=64)


def test_a_weight_beyond_fp16_is_refused(statistics_of: Statistics):
    with pytest.raises(WorkbenchError, match="fp16"):
        slim_llm(torch.full((2, 4), 1e8), statistics_of(torch.eye(4)), bits=3, group_size=-1)


@pytest.mark.parametrize("bits", [2, 3])
def test_the_smallest_matrix(statistics_of: Statistics, bits: int):
    held = slim_llm(torch.tensor([[0.75]]), statistics_of(torch.ones(3, 1)), bits=bits, group_size=128)
    assert held.dequantize().tolist() == [[pytest.approx(0.75, abs=1e-3)]]
