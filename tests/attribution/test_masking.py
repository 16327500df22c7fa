"""Masked prompts, and the words, clauses and sentences that are masked together."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from attribution_models import IDS, LOGIT, adapted
from transformers import AutoTokenizer

from workbench.attribution.adapter import Adapter
from workbench.attribution.masking import mask_prompt, members
from workbench.attribution.spans import SCALES, label_spans, span_texts

TEXT = 'Anna\'s mom said, "I found 1,000 toys." She (at 3.14) ran.\nOK 😀!! Bye'


@pytest.fixture(scope="module")
def reading(llama: Adapter, shared_models: Path) -> Adapter:
    return Adapter(llama.model, AutoTokenizer.from_pretrained(shared_models / "stories260K"))


def test_a_text_is_cut_into_words_clauses_and_sentences(reading: Adapter) -> None:
    ids = reading.vocabulary.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    words = span_texts(reading, ids, "word")
    assert words[:11] == ["Anna's", "mom", "said", ",", '"', "I", "found", "1", ",", "000", "toys"]
    assert words[-4:] == ["OK", "😀", "!!", "Bye"]
    assert span_texts(reading, ids, "sentence") == [
        'Anna\'s mom said, "I found 1,000 toys."',
        "She (at 3.14) ran.",
        "OK 😀!!",
        "Bye",
    ]
    assert span_texts(reading, ids, "clause")[:2] == ["Anna's mom said,", '"I found 1,000 toys."']


def test_each_scale_is_made_of_whole_spans_of_the_one_before(reading: Adapter) -> None:
    ids = reading.vocabulary.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    labels = [label_spans(reading, ids, scale) for scale in SCALES]
    counts = [int(scale.max()) + 1 for scale in labels]
    assert counts == sorted(counts, reverse=True)
    for fine, coarse in pairwise(labels):
        assert len(set(zip(fine.tolist(), coarse.tolist(), strict=True))) == int(fine.max()) + 2  # and the control


def test_a_tokenizer_of_whole_words_has_a_word_a_token_and_controls_cut_sentences(llama: Adapter) -> None:
    ids = torch.tensor([[1, 17, 33, 2, 90, 8]])
    assert label_spans(llama, ids, "word").tolist() == [-1, 0, 1, -1, 2, 3]
    assert label_spans(llama, ids, "sentence").tolist() == [-1, 0, 0, -1, 1, 1]
    assert members(label_spans(llama, ids, "sentence")).int().tolist() == [[0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]]


def test_a_masked_prompt_is_the_prompt_with_other_ids(either: Adapter) -> None:
    prompt = mask_prompt(either, IDS, LOGIT, "eos", 64)
    keep = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0], [1, 0, 1, 1, 0, 0, 1]]).double()
    ids = torch.tensor([[1, 17, 33, 90, 8, 64, 12, 45], [1, 2, 2, 2, 2, 2, 2, 2], [1, 17, 2, 90, 8, 2, 2, 45]])
    assert torch.equal(prompt.mix(keep), torch.cat([either.embed(row[None]) for row in ids]))
    expected = either.model(input_ids=ids).logits[:, -1, 40].double()
    torch.testing.assert_close(prompt.values(keep), expected.detach(), atol=1e-5, rtol=1e-5)


def test_slopes_are_those_of_the_value() -> None:
    prompt = mask_prompt(adapted("gpt2", torch.float64), IDS, LOGIT, "eos", 4)
    keep = torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, slopes = prompt.slopes(keep)
    torch.testing.assert_close(values, prompt.values(keep))
    small = 1e-5 * torch.eye(7, dtype=torch.float64)
    for row, slope in zip(keep, slopes, strict=True):
        numeric = (prompt.values(row + small) - prompt.values(row - small)) / 2e-5
        torch.testing.assert_close(slope, numeric, atol=1e-7, rtol=1e-5)


def test_memory_is_bounded_by_the_batch(llama: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    inner = llama.values
    monkeypatch.setattr(llama, "values", lambda embeds, f: sizes.append(len(embeds)) or inner(embeds, f))
    prompt = mask_prompt(llama, IDS, LOGIT, "eos", 4)
    prompt.values(torch.ones(10, 7, dtype=torch.float64))
    assert sizes == [4, 4, 2]
    sizes.clear()
    monkeypatch.setattr("workbench.attribution.sampling.TOKENS_AT_ONCE", 16)
    prompt.values(torch.ones(5, 7, dtype=torch.float64))
    assert sizes == [2, 2, 1]
