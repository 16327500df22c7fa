"""Gradient-weighted attention, against the rule applied to the maps and gradients that transformers itself gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attribution_models import IDS, LOGIT, OTHER, build, explain, words

from workbench.attribution.adapter import Adapter
from workbench.attribution.grad_attention import check_memory
from workbench.attribution.heads import watch_attention, watching
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError
from workbench.registry import attribution


def reference(adapter: Adapter, token: int) -> torch.Tensor:
    """Chefer's rule by `output_attentions`, in a copy of the model that is always eager."""
    model = build(adapter.model.config.model_type, implementation="eager")
    output = model(IDS, output_attentions=True)
    slopes = torch.autograd.grad(output.logits[0, -1, token], output.attentions)
    relevance = torch.eye(8)
    for maps, slope in zip(output.attentions, slopes, strict=True):
        relevance = relevance + torch.relu(maps * slope)[0].mean(0) @ relevance
    return (relevance - torch.eye(8))[-1].detach().double()


def test_scores_are_those_of_the_rule(any_family: Adapter) -> None:
    for target, token in ((LOGIT, 40), (OTHER, 70)):
        expected = reference(any_family, token)
        assert expected.max() > 0.01  # else closeness would say nothing
        scores = explain("grad_attention", any_family, target).scores
        torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-4)
        assert bool((scores >= 0).all())


def test_a_prompt_whose_maps_do_not_fit_is_refused_with_the_numbers(llama: Adapter) -> None:
    check_memory(llama, 3952)  # 2 layers x 4 heads x 3952^2 x 4 bytes, twice: just below a gigabyte
    with pytest.raises(WorkbenchError, match=r"2 x 4 attention maps of 4000 x 4000 tokens .* 1\.0 GB, .* to 3952 tok"):
        check_memory(llama, 4000)


class Broken(Target):
    """A target that fails when it is asked."""

    def value(self, logits: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("stop here")


@pytest.mark.parametrize("name", ["grad_attention", "norm_attention", "value_zeroing"])
def test_the_attention_that_the_model_had_comes_back_when_something_raises(name: str) -> None:
    for implementation in ("sdpa", "eager"):
        adapter = Adapter(build("llama", implementation=implementation), words())
        with pytest.raises(RuntimeError, match="stop here"):
            attribution.get(name)(adapter, IDS, Broken("logit", (40,), ("w40",)))
        assert adapter.model.config._attn_implementation == implementation
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in adapter.model.modules())


def test_a_visitor_that_raises_leaves_the_model_as_it_was(llama: Adapter) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        watch_attention(llama, IDS, fail)
    assert llama.model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in llama.model.modules())


def test_a_pass_that_shows_no_attention_is_refused(llama: Adapter) -> None:
    with (
        pytest.raises(WorkbenchError, match="shows the attention of 0 of its 2 layers"),
        watching(llama.model, 8, lambda layer: None),
    ):
        llama.model.lm_head(torch.zeros(1, 32))
