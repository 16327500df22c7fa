"""Act-order: columns swept in another order come back to their places, and the order is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import layers
import pytest
import torch

from workbench.model.sites import SiteStatistics
from workbench.quantizers.gptq import gptq
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.reordered import ReorderedWeight

Statistics = Callable[[torch.Tensor], SiteStatistics]


def output_error(layer: layers.Layer, held: QuantizedWeight) -> float:
    assert layer.statistics.gram is not None
    lost = (layer.weight - held.dequantize()).double()
    return float((lost @ layer.statistics.gram.double() * lost).sum())


@pytest.mark.parametrize("static", [False, True])
def test_act_order_is_the_sweep_of_reordered_columns_put_back(
    layer_s: layers.Layer, statistics_of: Statistics, static: bool
):
    order = layer_s.statistics.sum_sq.argsort(descending=True)
    options = {"bits": 3, "group_size": -1, "static_groups": static}
    ours = gptq(layer_s.weight, layer_s.statistics, **options, act_order=True)
    by_hand = gptq(layer_s.weight[:, order], statistics_of(layer_s.inputs[:, order]), **options)
    assert float((ours.dequantize()[:, order] != by_hand.dequantize()).float().mean()) < 0.005


@pytest.mark.parametrize("static", [False, True])
def test_act_order_keeps_columns_in_their_places(layer_s: layers.Layer, static: bool):
    held = gptq(layer_s.weight, layer_s.statistics, bits=8, group_size=64, act_order=True, static_groups=static)
    step = held.tensors()["scale"].float().max()
    assert float((held.dequantize() - layer_s.weight).abs().median()) < step
    plain = gptq(layer_s.weight, layer_s.statistics, bits=8, group_size=64)
    assert output_error(layer_s, held) < 0.5 * output_error(layer_s, plain)


def test_groups_of_reordered_columns_are_stored_and_counted(layer_s: layers.Layer):
    held = gptq(layer_s.weight, layer_s.statistics, bits=3, group_size=128, act_order=True)
    assert isinstance(held, ReorderedWeight)
    assert held.stored_bits == pytest.approx(3 + 32 / 128 + 16 / 256)
    loudest = layer_s.statistics.sum_sq.topk(128).indices
    assert sorted((held.group == 0).nonzero().flatten().tolist()) == sorted(loudest.tolist())
    again = ReorderedWeight(**{field.name: getattr(held, field.name) for field in fields(held)})
    assert torch.equal(again.dequantize(torch.bfloat16), held.dequantize().bfloat16())
    fixed = gptq(layer_s.weight, layer_s.statistics, bits=3, group_size=128, act_order=True, static_groups=True)
    assert fixed.stored_bits == pytest.approx(3 + 32 / 128)
