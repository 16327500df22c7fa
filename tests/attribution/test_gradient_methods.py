"""Gradient and gradient x input, against Captum and closed forms."""

from __future__ import annotations

import pytest
import torch
from attribution_models import CONTRAST, IDS, LOGIT, OTHER, adapted, explain, objective
from captum.attr import InputXGradient, Saliency

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import make_baseline


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_gradient_and_product_equal_captum(any_family: Adapter) -> None:
    embeds = any_family.embed(IDS)
    slope = Saliency(objective(any_family)).attribute(embeds, abs=False)[0].double()
    for norm, order in (("l2", 2), ("l1", 1), ("max", float("inf"))):
        ours = explain("gradient", any_family, norm=norm).scores
        torch.testing.assert_close(ours, slope.norm(order, dim=-1), atol=1e-6, rtol=1e-5)
    product = InputXGradient(objective(any_family)).attribute(embeds)[0].double().sum(-1)
    torch.testing.assert_close(explain("input_x_gradient", any_family).scores, product, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["input_x_gradient", "integrated_gradients"])
def test_the_map_of_a_contrast_is_the_difference_of_the_maps(name: str, either: Adapter) -> None:
    options = {} if name == "input_x_gradient" else {"nodes": 32, "max_nodes": 32}
    contrast = explain(name, either, CONTRAST, **options).scores
    difference = explain(name, either, LOGIT, **options).scores - explain(name, either, OTHER, **options).scores
    torch.testing.assert_close(contrast, difference, atol=1e-5, rtol=1e-4)
    assert contrast.abs().max() > 1e-3


def test_closed_forms_on_a_model_of_sums(toy: Adapter) -> None:
    """F = h . s^p with s the sum of embeddings: dF/dx_i = p h s^(p-1), and for p = 2 its path mean is h (s + s')."""
    power = toy.model.config.power
    embeds, head = toy.embed(IDS)[0], toy.model.head.weight[40].detach()
    start = make_baseline(toy, IDS, toy.embed(IDS), "eos").embeds[0]
    slope = power * head * embeds.sum(0) ** (power - 1)
    mean = head if power == 1 else head * (embeds.sum(0) + start.sum(0))
    torch.testing.assert_close(explain("gradient", toy).scores, slope.norm().expand(8))
    torch.testing.assert_close(explain("input_x_gradient", toy).scores, embeds @ slope)
    result = explain("integrated_gradients", toy, baseline="eos", nodes=2, max_nodes=2)
    torch.testing.assert_close(result.scores, (embeds - start) @ mean)
    assert result.completeness_gap == pytest.approx(0.0, abs=1e-12)


def test_product_states_its_gap_on_a_scale_invariant_model() -> None:
    adapter = adapted("llama", torch.float64)
    adapter.model.get_input_embeddings().weight.data.mul_(1e4)  # the first norm then sets the scale of everything
    result = explain("input_x_gradient", adapter)
    assert result.completeness_gap is not None
    assert result.value - float(result.scores.sum()) == pytest.approx(result.completeness_gap)
    assert "this model answers alike at any scale of its input" in result.notes[0]


def test_product_of_a_linear_model_has_no_gap_and_no_warning(toy: Adapter) -> None:
    result = explain("input_x_gradient", toy)
    expected = 0.0 if toy.model.config.power == 1 else -result.value  # Euler: the sum is power times F
    assert result.completeness_gap == pytest.approx(expected, abs=1e-12)
    assert result.notes == ()
