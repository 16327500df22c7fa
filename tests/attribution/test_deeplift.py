"""DeepLIFT: the sum that its rules promise, Captum where Captum has the rules, and what no rule is known for."""

from __future__ import annotations

import pytest
import torch
from attribution_models import CONTRAST, IDS, LOGIT, OTHER, adapted, explain, words
from captum.attr import DeepLift
from torch import nn

from workbench.attribution import rules
from workbench.attribution.adapter import Adapter
from workbench.attribution.patches import Rules, ruled
from workbench.attribution.targets import Target, parse_target
from workbench.errors import WorkbenchError
from workbench.registry import attribution

LOGPROB = Target("logprob", (40,), ("w40",))


@pytest.mark.parametrize("target", [LOGIT, CONTRAST, LOGPROB], ids=lambda target: target.kind)
@pytest.mark.parametrize("baseline", ["eos", "mean"])
def test_scores_add_up_on_every_family(any_family: Adapter, baseline: str, target: Target) -> None:
    result = explain("deeplift", any_family, target, baseline=baseline)
    assert result.baseline_value is not None
    change = result.value - result.baseline_value
    assert float(result.scores.abs().max()) > 0.05
    assert float(result.scores.sum()) == pytest.approx(change, abs=2e-4 * max(abs(change), 0.1))
    assert float(result.scores[0]) == 0.0


@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2", "gpt_neox"])
def test_the_sum_is_exact_in_double_precision(family: str) -> None:
    result = explain("deeplift", adapted(family, torch.float64))
    assert result.relative_gap is not None
    assert result.relative_gap < 1e-12


def test_the_value_is_that_of_an_ordinary_pass(any_family: Adapter) -> None:
    expected = any_family.predict(IDS)
    assert explain("deeplift", any_family).value == pytest.approx(float(expected[40]), abs=1e-5)


@pytest.mark.parametrize("scale", [1, 10, 100])
def test_attention_that_moves_elsewhere_does_not_lose_digits(scale: int) -> None:
    adapter = adapted("llama")
    for layer in adapter.model.model.layers:
        layer.self_attn.q_proj.weight.data.mul_(scale)
    result = explain("deeplift", adapter)
    assert result.relative_gap is not None
    assert result.relative_gap < 2e-4
    assert result.notes == ("1 token is held fixed: its score is 0 by construction",)


@pytest.mark.parametrize("name", ["deeplift", "linearised", "smoothgrad"])
def test_the_map_of_a_contrast_is_the_difference_of_the_maps(name: str, either: Adapter) -> None:
    options = {"form": "product"} if name == "smoothgrad" else {}
    contrast = explain(name, either, CONTRAST, **options).scores
    difference = explain(name, either, LOGIT, **options).scores - explain(name, either, OTHER, **options).scores
    torch.testing.assert_close(contrast, difference, atol=1e-5, rtol=1e-4)
    assert contrast.abs().max() > 1e-3


def test_it_equals_integrated_gradients_on_sums_and_their_squares(toy: Adapter) -> None:
    ours = explain("deeplift", toy, baseline="eos").scores
    path = explain("integrated_gradients", toy, baseline="eos", nodes=2, max_nodes=2).scores
    torch.testing.assert_close(ours, path, atol=1e-12, rtol=1e-10)
    assert float(ours.abs().max()) > 1e-3


@pytest.mark.parametrize("bend", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Softplus])
@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks", "ignore:.*did not already require gradients")
def test_the_rules_equal_captum_on_a_network_that_captum_knows(bend: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 16), bend(), nn.Linear(16, 16), bend(), nn.Linear(16, 3))
    net.requires_grad_(False)
    given, base = torch.randn(1, 7), torch.randn(1, 7)
    pair = torch.cat([given, base]).requires_grad_()
    with ruled(net, Rules("test", rules.DIFFERENCES)):
        value = net(pair)[0, 2]
    (multipliers,) = torch.autograd.grad(value, pair)
    theirs = DeepLift(net).attribute(given, baselines=base, target=2)
    torch.testing.assert_close((given - base)[0] * multipliers[0], theirs[0], atol=1e-5, rtol=1e-5)


def check_difference(made: torch.Tensor, pair: torch.Tensor) -> None:
    """Multipliers times the difference that went in are the difference that came out, for one output at a time."""
    for number in range(made.shape[1]):
        (multipliers,) = torch.autograd.grad(made[0, number], pair, retain_graph=True)
        moved = (multipliers[0] * (pair[0] - pair[1])).sum()
        torch.testing.assert_close(moved, made[0, number] - made[1, number], atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("gap", [0.0, 1e-9, 1.0, 300.0])
def test_every_rule_passes_differences_on_exactly(gap: float) -> None:
    torch.manual_seed(0)
    base = torch.randn(6, dtype=torch.float64)
    pair = torch.stack([base + gap * torch.randn(6, dtype=torch.float64), base]).requires_grad_()
    check_difference(rules.softmax(pair, -1), pair)
    check_difference(rules.log_sum_exp(pair, -1), pair)
    check_difference(rules.product(pair, pair.flip(1)), pair)
    check_difference(rules.matrix_product(pair[:, None], pair[:, :, None])[:, 0], pair)
    check_difference(rules.inverse_root(rules.product(pair, pair) + 0.1), pair)
    check_difference(rules.secant(nn.functional.silu, pair), pair)


def test_masked_scores_take_no_part() -> None:
    pair = torch.tensor([[0.3, -torch.inf, 1.0], [2.0, -torch.inf, -1.0]], dtype=torch.float64).requires_grad_()
    made = rules.softmax(pair, -1)
    torch.testing.assert_close(made, pair.softmax(-1))
    (multipliers,) = torch.autograd.grad(made[0, 0], pair)
    assert float(multipliers[0, 1]) == 0.0
    assert bool(multipliers.isfinite().all())


def test_the_zero_baseline_is_refused_without_added_positions(llama: Adapter) -> None:
    with pytest.raises(WorkbenchError, match=r"adds no position embeddings.*choose one of: auto, eos, unk, mean"):
        explain("deeplift", llama, baseline="zero")


def test_the_zero_baseline_adds_up_with_added_positions() -> None:
    result = explain("deeplift", adapted("gpt2"), baseline="zero")
    assert result.relative_gap is not None
    assert result.relative_gap < 2e-4


@pytest.mark.parametrize("name", ["deeplift", "linearised"])
def test_an_operation_without_a_rule_is_refused_by_the_name_of_its_module(name: str) -> None:
    adapter = adapted("llama")
    adapter.model.model.layers[1].mlp.act_fn = Sine()
    with pytest.raises(
        WorkbenchError, match=rf"{name} has no rule for the operation 'sin' in module 'model\.layers\.1"
    ):
        explain(name, adapter)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in adapter.model.modules())
    assert adapter.model.config._attn_implementation == "sdpa"


class Sine(nn.Module):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given.sin()


def test_a_prompt_equal_to_its_baseline_scores_zero(either: Adapter) -> None:
    result = attribution.get("deeplift")(Adapter(either.model, words()), torch.tensor([[1, 2, 2]]), LOGIT)
    assert result.scores.tolist() == [0.0, 0.0, 0.0]


def test_it_agrees_with_integrated_gradients_on_a_trained_model(stories: Adapter) -> None:
    """No identity, but both share out the same change: a faulty rule shows here as no correlation at all."""
    prompt = stories.encode("Once upon a time there was a little girl named")
    target = parse_target(stories, prompt)
    ours = attribution.get("deeplift")(stories, prompt.ids, target)
    path = attribution.get("integrated_gradients")(stories, prompt.ids, target)
    assert ours.relative_gap is not None
    assert ours.relative_gap < 2e-4
    assert float(torch.corrcoef(torch.stack([ours.scores, path.scores]))[0, 1]) > 0.9
