"""AWQ's searches for scales and limits against the published loops, and on the layer of the design's figures."""

from __future__ import annotations

from collections.abc import Callable

import layers
import pytest
import torch
from blocks_by_hand import build, first_task, loaded, numbers
from torch.nn.functional import silu

from workbench.model.block_task import BlockTask
from workbench.model.block_watch import call_of
from workbench.model.load import LoadedModel
from workbench.model.sites import SiteStatistics
from workbench.progress import run
from workbench.quantizers.arithmetic.awq_clip import GroupGrams, search_clip
from workbench.quantizers.arithmetic.awq_scales import RATIOS, Levels, output_error, search_linear, search_module
from workbench.quantizers.awq import inspected_module
from workbench.quantizers.rtn import rtn

ALL = (*RATIOS, 1.0)


@pytest.fixture
def any_task(tiny_llama: LoadedModel) -> Callable[[str], BlockTask]:
    return lambda family: first_task(loaded(build(family), tiny_llama), numbers(96))


def textbook(weight: torch.Tensor, bits: int, group_size: int) -> torch.Tensor:
    """The grid of the kernels' contract, group after group, in the precision of the weight."""
    rounded, size = torch.empty_like(weight), weight.shape[1] if group_size == -1 else group_size
    for start in range(0, weight.shape[1], size):
        part = weight[:, start : start + size]
        low, high = part.amin(1, keepdim=True).clamp(max=0), part.amax(1, keepdim=True).clamp(min=0)
        step = ((high - low) / (2**bits - 1)).half().to(weight).clamp(min=2.0**-24)
        zero = (-low / step).round()
        rounded[:, start : start + size] = step * (((part / step).round() + zero).clamp(0, 2**bits - 1) - zero)
    return rounded


def published_scale(mean_abs: torch.Tensor, ratio: float) -> torch.Tensor:
    scale = mean_abs.pow(ratio).clamp(min=1e-4)
    return (scale / (scale.max() * scale.min()).sqrt()).half().float()


@pytest.mark.parametrize(("bits", "ratio", "exponent"), [(4, 0.294, 0.40), (3, 0.271, 0.40), (2, 0.278, 0.45)])
def test_the_designs_layer_loses_a_quarter_of_what_rounding_loses(
    layer_s: layers.Layer, bits: int, ratio: float, exponent: float
):
    stats, levels = layer_s.statistics, Levels(bits, 128, False)
    assert stats.gram is not None
    found = run(search_linear(layer_s.weight, stats.mean_abs, stats.gram, levels, ALL))
    assert found.ratio == exponent
    assert min(found.losses) / found.losses[0] == pytest.approx(ratio, abs=5e-4)
    assert len(found.losses) == 21


@pytest.mark.parametrize(("bits", "group_size", "columns"), [(3, 64, 172), (4, -1, 96), (2, 32, 300)])
def test_the_search_gives_the_losses_of_running_the_layer_on_every_token(
    statistics_of: Callable[[torch.Tensor], SiteStatistics], bits: int, group_size: int, columns: int
):
    generator = torch.Generator().manual_seed(columns)
    x = torch.randn(200, columns, generator=generator) * torch.exp(torch.randn(columns, generator=generator))
    weight, stats = torch.randn(24, columns, generator=generator), statistics_of(x)
    assert stats.gram is not None
    expected = []
    for ratio in RATIOS:
        scale = published_scale(stats.mean_abs, ratio)
        rounded = textbook(weight * scale, bits, group_size) / scale
        expected.append(float((x.double() @ (rounded - weight).double().T).square().mean()))
    found = run(search_linear(weight, stats.mean_abs, stats.gram, Levels(bits, group_size, False)))
    # a weight on the border between two levels may fall to either side, as a quotient or a product decides
    assert found.losses == pytest.approx(expected, rel=2e-3)
    assert found.ratio == RATIOS[expected.index(min(expected))]


def test_the_error_by_panels_is_the_trace():
    generator = torch.Generator().manual_seed(0)
    change, half = torch.randn(7, 600, generator=generator), torch.randn(600, 600, generator=generator)
    gram = half.T @ half
    expected = float((change.double() @ gram.double() * change.double()).sum()) / 7
    assert output_error(change, gram) == pytest.approx(expected, rel=1e-5)


def test_an_mlp_is_judged_by_its_own_output(tiny_llama: LoadedModel):
    task = first_task(tiny_llama, numbers(259))
    gate, up, down = (f"model.layers.0.mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
    x, call = call_of(task, 0, "model.layers.0.mlp")
    mean_abs = run(task.statistics("model.layers.0.mlp.gate_proj", ("mean_abs",))).mean_abs
    levels = Levels(3, 64, False)
    found = run(search_module(task, "model.layers.0.mlp", (gate, up), [(x, call)], mean_abs, levels, ALL))
    full = {name: task.weights[name] for name in (gate, up, down)}

    def output(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return (silu(x @ weights[gate].T) * (x @ weights[up].T)) @ full[down].T

    expected = []
    for ratio in ALL:
        scale = published_scale(mean_abs, ratio)
        changed = {name: textbook(full[name] * scale, 3, 64) / scale for name in (gate, up)}
        expected.append(float((output(changed) - output(full)).square().mean()))
    assert found.losses == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2"])
def test_no_module_is_left_worse_than_by_round_to_nearest(any_task: Callable[[str], BlockTask], family: str):
    task = any_task(family)
    for site, readers in task.sites.items():
        stats = run(task.statistics(site, ("gram",)))
        names, path = [one.name for one in readers], inspected_module([one.module for one in readers])
        levels = Levels(2, 32, False)
        found = run(search_module(task, path, names, [call_of(task, 0, path)], stats.mean_abs, levels, ALL))
        assert min(found.losses) <= found.losses[0]
        plain = {name: textbook(task.weights[name], 2, 32) for name in names}
        first, call = call_of(task, 0, path)
        outputs = [task.block.run_inside(path, call, first, weights) for weights in (plain, task.weights)]
        assert found.losses[0] == pytest.approx(float((outputs[0] - outputs[1]).square().mean()), rel=1e-3)


def test_planted_outlier_channels_are_undone(statistics_of: Callable[[torch.Tensor], SiteStatistics]):
    """Channels made fifty times larger, their columns as much smaller: the layer computes what it did before."""
    generator = torch.Generator().manual_seed(5)
    x, weight = torch.randn(512, 256, generator=generator), torch.randn(64, 256, generator=generator)
    factor = torch.ones(256)
    factor[torch.randperm(256, generator=generator)[:40]] = 50.0
    before, stats = statistics_of(x), statistics_of(x * factor)
    assert before.gram is not None
    assert stats.gram is not None
    plain = output_error(rtn(weight, bits=3, group_size=64).dequantize() - weight, before.gram)
    found = run(search_linear(weight / factor, stats.mean_abs, stats.gram, Levels(3, 64, False), ALL))
    assert found.losses[0] > 3 * plain
    assert min(found.losses) < 1.05 * plain
    assert found.ratio == 1.0  # which the published grid of exponents stops short of


@pytest.mark.parametrize(("group_size", "tokens"), [(64, 300), (-1, 40), (32, 3)])
def test_clipping_follows_the_published_loop(
    statistics_of: Callable[[torch.Tensor], SiteStatistics], group_size: int, tokens: int
):
    generator = torch.Generator().manual_seed(tokens)
    weight = torch.randn(9, 172, generator=generator) ** 3
    x = torch.randn(tokens, 172, generator=generator)
    gram = statistics_of(x).gram
    assert gram is not None
    found = run(search_clip(weight, GroupGrams.of(gram, group_size), Levels(3, group_size, False)))
    size = 172 if group_size == -1 else group_size
    for start in range(0, 172, size):
        part, inputs = weight[:, start : start + size], x[:, start : start + size].double()
        largest = part.abs().amax(1, keepdim=True)
        candidates = [part.clamp(-largest * (1 - step / 20), largest * (1 - step / 20)) for step in range(10)]
        rounded = [textbook(one, 3, -1) for one in candidates]
        errors = torch.stack([((one - part).double() @ inputs.T).square().mean(1) for one in rounded])
        best = torch.stack(candidates)[errors.argmin(0), torch.arange(9)]
        same = torch.isclose(found[:, start : start + size], best, rtol=1e-5).all(1)
        assert int(same.sum()) >= 8  # two limits may be as good as one another to the last digits
        assert (errors.argmin(0) > 0).any()


def test_inputs_of_scaled_columns_have_divided_grams(statistics_of: Callable[[torch.Tensor], SiteStatistics]):
    generator = torch.Generator().manual_seed(2)
    x, scale = torch.randn(50, 70, generator=generator), torch.rand(70, generator=generator) + 0.5
    whole, divided = statistics_of(x).gram, statistics_of(x / scale).gram
    assert whole is not None
    assert divided is not None
    found, expected = GroupGrams.of(whole, 32).divided(scale).blocks, GroupGrams.of(divided, 32).blocks
    assert [tuple(one.shape) for one in found] == [(2, 32, 32), (1, 6, 6)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_inspected_module_holds_all_readers():
    assert inspected_module(["m.0.attn.q", "m.0.attn.k"]) == "m.0.attn"
    assert inspected_module(["m.0.attn.q", "m.0.mlp.q"]) == "m.0"
    assert inspected_module(["m.0.mlp.down"]) == "m.0.mlp.down"
