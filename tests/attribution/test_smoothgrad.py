"""SmoothGrad: Captum without noise, a loop with the same noise, and closed forms with it."""

from __future__ import annotations

import pytest
import torch
from attribution_models import IDS, explain, objective
from captum.attr import NoiseTunnel, Saliency

from workbench.attribution.adapter import Adapter


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_one_copy_with_hardly_any_noise_equals_captum(any_family: Adapter) -> None:
    tunnel = NoiseTunnel(Saliency(objective(any_family)))
    theirs = tunnel.attribute(any_family.embed(IDS), nt_type="smoothgrad", nt_samples=1, stdevs=1e-9, abs=False)
    ours = explain("smoothgrad", any_family, samples=1, sigma=1e-8)
    torch.testing.assert_close(ours.scores, theirs[0].double().norm(dim=-1), atol=1e-5, rtol=1e-4)


def test_noise_of_zero_gives_the_two_plain_methods(either: Adapter) -> None:
    norm, product = (explain("smoothgrad", either, samples=3, sigma=0.0, form=form) for form in ("norm", "product"))
    torch.testing.assert_close(norm.scores, explain("gradient", either).scores, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(product.scores, explain("input_x_gradient", either).scores, atol=1e-6, rtol=1e-5)
    assert (norm.signed, product.signed) == (False, True)


@pytest.mark.parametrize("form", ["norm", "product"])
def test_it_equals_a_loop_over_the_same_noise(form: str, llama: Adapter) -> None:
    embeds, draws = llama.embed(IDS), torch.Generator().manual_seed(5)
    spread = 0.3 * embeds.std(correction=0)
    slopes = []
    for _ in range(6):
        noisy = (embeds + spread * torch.randn(embeds[0].shape, generator=draws)).requires_grad_()
        slopes.append(torch.autograd.grad(objective(llama)(noisy).sum(), noisy)[0][0].double())
    stacked = torch.stack(slopes)
    expected = stacked.mean(0).norm(dim=-1) if form == "norm" else (stacked.mean(0) * embeds[0]).sum(-1)
    ours = explain("smoothgrad", llama, samples=6, sigma=0.3, seed=5, form=form, batch=4)
    torch.testing.assert_close(ours.scores, expected, atol=1e-6, rtol=1e-4)
    single = (stacked * embeds[0]).sum(-1)
    error = stacked.var(0).sum(-1).sqrt() if form == "norm" else single.std(0)
    assert f"standard error of a score is at most {float(error.max()) / 6**0.5:.3g}" in ours.notes[-1]


def test_the_mean_of_a_square_is_within_its_standard_error(toy: Adapter) -> None:
    """F = h . s^p has a gradient that is linear in the noise, so its mean is the gradient without noise."""
    result = explain("smoothgrad", toy, samples=400, form="product", seed=1)
    expected = explain("input_x_gradient", toy).scores
    error = float(result.notes[-1].split("at most ")[1].split(" ")[0].rstrip(")"))
    assert float((result.scores - expected).abs().max()) <= 4 * error + 1e-12
    assert (error > 1e-9) == (toy.model.config.power == 2)


def test_the_batch_changes_nothing_and_the_seed_does(llama: Adapter) -> None:
    first, second = (explain("smoothgrad", llama, samples=5, batch=batch).scores for batch in (1, 5))
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-5)
    assert not torch.equal(explain("smoothgrad", llama, samples=5, seed=1).scores, second)
    assert "one noisy copy alone" in explain("smoothgrad", llama, samples=1).notes[-1]
