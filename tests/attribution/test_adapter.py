"""The adapter gives the model's own numbers and leaves the model as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attribution_models import FAMILIES, IDS, Toy, ToyConfig, adapted, build, words

from workbench.attribution.adapter import Adapter
from workbench.errors import WorkbenchError


def first_logit(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, 5]


def state_of(model: torch.nn.Module) -> dict[str, Any]:
    """Everything of a model that a call could leave changed, but for the weights."""
    return {
        "gradients": [parameter.grad for parameter in model.parameters()],
        "thawed": [parameter.requires_grad for parameter in model.parameters()],
        "training": [module.training for module in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "attention": model.config._attn_implementation,
    }


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_embeddings_give_the_logits_of_the_tokens(family: str, implementation: str) -> None:
    adapter = Adapter(build(family, implementation=implementation), words())
    with torch.no_grad():
        own = adapter.model(IDS).logits
        through = adapter.forward_embeds(adapter.embed(IDS))
        last = adapter.forward_embeds(adapter.embed(IDS).expand(3, -1, -1), last_only=True)
    torch.testing.assert_close(through, own, atol=1e-5, rtol=0)
    torch.testing.assert_close(last, own[:, -1:].expand(3, -1, -1), atol=1e-5, rtol=0)
    assert own.std() > 0.1  # else closeness would say nothing


@pytest.mark.parametrize("mode", [contextlib.nullcontext, torch.no_grad, torch.inference_mode])
def test_gradients_work_in_every_mode_of_the_caller(llama: Adapter, mode: Callable[[], Any]) -> None:
    embeds = llama.embed(IDS).requires_grad_()
    (expected,) = torch.autograd.grad(llama.model(inputs_embeds=embeds).logits[0, -1, 5], embeds)
    with mode():
        value, gradient = llama.gradients(llama.embed(IDS.clone()), first_logit)
    torch.testing.assert_close(gradient, expected)
    assert float(value) == pytest.approx(float(llama.predict(IDS)[5]), abs=1e-5)


def test_gradient_equals_central_differences() -> None:
    adapter = adapted("gpt2", torch.float64)  # Llama's norm computes in single precision whatever the weights are
    embeds = adapter.embed(IDS)
    _, gradient = adapter.gradients(embeds, first_logit)
    torch.manual_seed(1)
    for position, channel in zip(torch.randint(8, (20,)).tolist(), torch.randint(32, (20,)).tolist(), strict=True):
        step = torch.zeros_like(embeds)
        step[0, position, channel] = 1e-6
        above, below = adapter.values(torch.cat([embeds + step, embeds - step]), first_logit)
        assert float(above - below) / 2e-6 == pytest.approx(float(gradient[0, position, channel]), rel=1e-3, abs=1e-7)


def fail(*_: Any) -> Any:
    raise RuntimeError("stop here")


@pytest.mark.parametrize(
    "use",
    [
        lambda adapter: adapter.gradients(adapter.embed(IDS), first_logit),
        lambda adapter: adapter.attentions(IDS, lambda layer, maps: None),
        lambda adapter: adapter.gradients(adapter.embed(IDS), fail),
        lambda adapter: adapter.attentions(IDS, fail),
    ],
    ids=["gradients", "attentions", "gradients that fail", "attentions that fail"],
)
def test_the_model_is_left_as_it_was(use: Callable[[Adapter], Any]) -> None:
    model = build("llama").train()
    model.requires_grad_(True)
    model.model.layers[0].eval()
    before = state_of(model)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with contextlib.suppress(RuntimeError):
        use(Adapter(model, words()))
    assert state_of(model) == before
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


def test_weights_are_frozen_and_dropout_is_off_inside(llama: Adapter) -> None:
    model = build("gpt2").train()
    with Adapter(model, words()).steady():
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not any(module.training for module in model.modules())
        assert torch.is_grad_enabled()


def test_attentions_are_those_of_the_model(any_family: Adapter) -> None:
    seen = []
    logits = any_family.attentions(IDS, lambda layer, maps: seen.append((layer, maps)))
    reference = build(any_family.model.config.model_type, implementation="eager")
    with torch.no_grad():
        expected = reference(IDS, output_attentions=True)
    assert [layer for layer, _ in seen] == [0, 1]
    for (_, maps), theirs in zip(seen, expected.attentions, strict=True):
        torch.testing.assert_close(maps, theirs[0], atol=1e-5, rtol=0)
        assert maps.triu(1).abs().max() == 0
    torch.testing.assert_close(logits, expected.logits[:, -1], atol=1e-5, rtol=0)


def test_a_model_that_shows_no_attention_is_refused() -> None:
    adapter = Adapter(Toy(ToyConfig()).eval(), words())
    with pytest.raises(WorkbenchError, match="shows the attention of 0 of its 2 layers"):
        adapter.attentions(IDS, lambda layer, maps: None)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_models_that_add_positions_are_told_from_those_that_do_not(family: str) -> None:
    assert adapted(family).adds_positions() == (family in ("gpt2", "opt"))


def test_ids_without_an_embedding_are_refused(llama: Adapter) -> None:
    with pytest.raises(WorkbenchError, match="token id 96 has no embedding; the model knows the ids 0 to 95"):
        llama.embed(torch.tensor([[1, 96]]))


def test_logits_that_are_no_numbers_are_refused() -> None:
    adapter = adapted("llama")
    with torch.no_grad():
        adapter.model.lm_head.weight[7] = float("nan")
    with pytest.raises(WorkbenchError, match="1 logits that are NaN"):
        adapter.predict(IDS)
