"""NormGrad: against autograd on the weights."""

from __future__ import annotations

import pytest
import torch
from attribution_models import IDS, LOGIT, adapted, explain, objective

from workbench.attribution.adapter import Adapter
from workbench.attribution.normgrad import linear_modules, weight_gradients
from workbench.errors import WorkbenchError


def of_weights(adapter: Adapter, ids: torch.Tensor) -> list[torch.Tensor]:
    """dF/dW of every linear module."""
    weights = [module.weight for module in linear_modules(adapter).values()]
    value = LOGIT.value(adapter.model(ids).logits[:, -1]).sum()
    return list(torch.autograd.grad(value, weights))


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gpt_neox"])
def test_the_score_of_one_token_is_the_norm_of_the_gradient_of_the_weights(family: str) -> None:
    adapter = adapted(family, torch.float64)
    ids = torch.tensor([[17]])
    _, norms = weight_gradients(adapter, ids, LOGIT)
    expected = torch.stack([slope.norm() for slope in of_weights(adapter, ids)])
    torch.testing.assert_close(norms[:, 0], expected, atol=1e-12, rtol=1e-6)
    assert float(expected.max()) > 1e-3


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_token_scores_what_the_gradient_loses_without_it(family: str) -> None:
    """Holding the input of a matrix back at one token takes that token's g x^T out of the gradient of the weights."""
    adapter = adapted(family, torch.float64)
    _, norms = weight_gradients(adapter, IDS, LOGIT)
    for row, (module, whole) in enumerate(zip(linear_modules(adapter).values(), of_weights(adapter, IDS), strict=True)):
        kept = torch.ones(1, 8, 1, dtype=torch.float64)
        kept[0, 7] = 0  # the last token is the one that every matrix of both blocks carries
        own = module.weight
        handle = module.register_forward_hook(
            lambda part, given, out, kept=kept: out * kept + out.detach() * (1 - kept)
        )
        (without,) = torch.autograd.grad(objective(adapter)(adapter.embed(IDS)).sum(), own)
        handle.remove()
        assert float(norms[row, 7]) == pytest.approx(float((whole - without).norm()), rel=1e-6, abs=1e-12)


def test_scores_are_the_means_over_the_matrices(either: Adapter) -> None:
    _, norms = weight_gradients(either, IDS, LOGIT)
    torch.testing.assert_close(explain("normgrad", either).scores, norms.mean(0))
    product = explain("normgrad", either, combine="product")
    reached = norms[[bool((row > 0).all()) for row in norms]]
    torch.testing.assert_close(product.scores, reached.prod(0) ** (1 / len(reached)))
    assert 0 < len(reached) < len(norms)
    assert f"{len(reached)} of {len(norms)} matrices" in product.notes[-1]


def test_a_model_without_linear_modules_is_refused(toy: Adapter) -> None:
    toy.model.get_output_embeddings = lambda: toy.model.head
    with pytest.raises(WorkbenchError, match="Toy has no linear modules"):
        explain("normgrad", toy)


def test_a_module_that_is_called_twice_is_refused() -> None:
    adapter = adapted("llama")
    mlp = adapter.model.model.layers[0].mlp
    mlp.up_proj = mlp.gate_proj
    with pytest.raises(WorkbenchError, match=r"'model\.layers\.0\.mlp\.gate_proj' was called 2 times and not once"):
        explain("normgrad", adapter)
    assert not any(module._forward_hooks for module in adapter.model.modules())
