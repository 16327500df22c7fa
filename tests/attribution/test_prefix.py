"""Rows that begin as the prompt does run from where they leave it: the same numbers, fewer tokens."""

from __future__ import annotations

import pytest
import torch
from attribution_models import GROUPED, LOGIT, VOCAB, adapted, words
from torch import nn
from transformers import MistralConfig, MistralForCausalLM

from workbench.attribution import masking
from workbench.attribution.adapter import Adapter
from workbench.attribution.layout import behind
from workbench.attribution.masking import mask_prompt
from workbench.attribution.prefix import keep_prefix
from workbench.registry import attribution

LONG = (torch.arange(48) * 7 % (VOCAB - 4) + 4)[None]
LATE = torch.full((40,), 40)


@pytest.mark.parametrize("name", ["occlusion", "occlusion_spans"])
def test_scores_are_those_of_whole_prompts(name: str, any_family: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_prefix(any_family, any_family.embed(LONG), LATE) is not None
    quick = attribution.get(name)(any_family, LONG, LOGIT).scores
    monkeypatch.setattr(masking, "keep_prefix", lambda *_: None)
    whole = attribution.get(name)(any_family, LONG, LOGIT).scores
    torch.testing.assert_close(quick, whole, atol=1e-5, rtol=1e-4)
    assert float(whole.abs().max()) > 0.01


def test_values_equal_those_of_other_ids(llama: Adapter) -> None:
    prompt = mask_prompt(llama, LONG, LOGIT, "eos", 64)
    gone = torch.stack([torch.arange(48) == place for place in range(48)])
    ids = torch.where(gone, 2, LONG)
    expected = llama.model(input_ids=ids).logits[:, -1, 40].detach().double()
    torch.testing.assert_close(prompt.values((~gone).double()), expected, atol=1e-5, rtol=1e-5)


def test_about_half_of_the_tokens_are_run(llama: Adapter) -> None:
    run: list[int] = []

    def look(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        run.append(given[0].shape[:2].numel())

    handle = llama.model.model.layers[0].mlp.register_forward_pre_hook(look)
    attribution.get("occlusion")(llama, LONG, LOGIT)
    handle.remove()
    assert sum(run) < 0.75 * 48 * 50  # the ends, the prompt itself and its second half are run beside the rows


def test_what_cannot_be_shared_is_run_in_full(llama: Adapter) -> None:
    embeds = llama.embed(LONG)
    assert keep_prefix(llama, embeds, torch.full((40,), 5)) is None  # little to save
    assert keep_prefix(llama, embeds, LATE[:4]) is None
    assert keep_prefix(llama.laid_out(behind([False] * 44, [5, 6], [7, 8])), embeds, LATE) is None
    torch.manual_seed(0)
    sliding = MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=8)).eval()
    assert keep_prefix(Adapter(sliding, words()), embeds, LATE) is None


def test_a_model_that_answers_otherwise_from_its_cache_is_run_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapted("llama")
    plain = adapter.model.forward

    def forgets(inputs_embeds=None, position_ids=None, past_key_values=None, use_cache=None, logits_to_keep=0):
        places = position_ids * 0 if past_key_values.get_seq_length() else position_ids
        return plain(
            inputs_embeds=inputs_embeds, position_ids=places, past_key_values=past_key_values, use_cache=use_cache
        )

    monkeypatch.setattr(adapter.model, "forward", forgets)
    assert keep_prefix(adapter, adapter.embed(LONG), LATE) is None
