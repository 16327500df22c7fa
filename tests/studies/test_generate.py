"""Texts side by side: written as transformers writes them, changed words marked, sizes counted from what is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices
from workbench.model.overlay import overlay
from workbench.results import Result, dumps
from workbench.studies.attribute import quantized_weights
from workbench.studies.context import Context
from workbench.studies.text_changes import changed, changed_words, same_start
from workbench.studies.writing import Wish, write
from workbench.vocabulary import unknown_columns

PROMPT = "the cat sat"
NEW = 6


def scheme(bits: int, **facts: Any) -> dict[str, Any]:
    return {"quantizer": "rtn", "bits": bits, "group_size": 32, "symmetric": False, "options": {}} | facts


def points(*chosen: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"label": f"{one['quantizer']} {one['bits']}", "scheme": one} for one in chosen]


def asked(texts: dict[str, str], *chosen: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": PROMPT, "choices": points(*chosen), "new_tokens": NEW, "tokens": 128, "window": 64, **texts}


def by_transformers(loaded: LoadedModel) -> list[int]:
    ids = loaded.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    mask = torch.ones_like(ids)
    model: Any = loaded.model
    found = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, pad_token_id=1)
    return found[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_gpt2"])
def test_texts_are_those_of_transformers_and_sizes_those_of_the_packed_weights(
    family: str, request: pytest.FixtureRequest, texts: dict[str, str], finish: Callable[..., Result]
) -> None:
    loaded: LoadedModel = request.getfixturevalue(family)
    result = finish(studies.generate(loaded, **asked(texts, scheme(2))))
    full, small = result.document["choices"]
    assert full["ids"] == by_transformers(loaded)
    dense: Any = finish(quantized_weights(loaded, scheme(2), None, None, Context()))
    with overlay(loaded.model, dense):
        assert small["ids"] == by_transformers(loaded)
    matrices = quantizable_matrices(loaded.model)
    weights = sum(matrix.parameters for matrix in matrices)
    everything = sum(one.numel() for one in loaded.model.parameters())
    # 2 bits and an fp16 scale with a 16-bit zero point a group of 32; the last group of 172 columns is shorter
    groups = sum(matrix.rows * -(-matrix.columns // 32) for matrix in matrices)
    assert small["stored_bytes"] == weights // 4 + 4 * groups + 2 * (everything - weights)
    assert full["stored_bytes"] == 2 * everything
    assert full["memory_bytes"] - small["memory_bytes"] == 4 * weights - (weights // 4 + 4 * groups)
    assert (full["packed"], small["packed"]) == (False, True)
    assert "NaN" not in dumps(result.document)
    assert not unknown_columns(result.tables["choices"].columns)


def test_quality_and_reasons_are_those_of_the_studies_that_tell_them(
    tiny_llama: LoadedModel, texts: dict[str, str], finish: Callable[..., Result]
) -> None:
    context = Context()
    read: dict[str, Any] = {"tokens": 128, "window": 64, **texts}
    rows = finish(studies.generate(tiny_llama, **asked(texts, scheme(4), scheme(2)), context=context)).document[
        "choices"
    ]
    for one, bits in zip(rows[1:], (4, 2), strict=True):
        measured = finish(studies.evaluate(tiny_llama, scheme=scheme(bits), **read)).document
        assert rows[0]["perplexity"] == pytest.approx(measured["reference"]["perplexity"], rel=1e-6)
        for name in ("perplexity", "stored_bits", "delta_loss", "kl_mean", "top1_agreement"):
            assert one[name] == pytest.approx(measured[name], rel=1e-6)
        drifted = finish(studies.drift(tiny_llama, prompts=[PROMPT], method="linearised", scheme=scheme(bits)))
        assert one["reasons"] == drifted.document["prompts"][0]


def test_a_quantizer_without_packed_product_runs_dense_and_says_so(
    tiny_llama: LoadedModel, texts: dict[str, str], finish: Callable[..., Result]
) -> None:
    chosen = scheme(3, quantizer="squeezellm", group_size=-1)
    full, small = finish(studies.generate(tiny_llama, **asked(texts, chosen))).document["choices"]
    assert small["packed"] is False
    assert small["memory_bytes"] == full["memory_bytes"]
    assert small["stored_bytes"] < full["stored_bytes"]


def test_changed_words_of_a_pair_made_by_hand() -> None:
    pieces = changed_words("The dog ran to the park.", "The big dog went\nto the park. Fun ")
    assert [(one["text"], one["changed"], one["words"]) for one in pieces] == [
        ("The", False, 1),
        (" big", True, 1),
        (" dog", False, 1),
        (" went", True, 1),
        ("\nto the park.", False, 3),
        (" Fun ", True, 1),
    ]
    assert changed_words("", "") == []
    assert changed([1, 2, 3, 4], [1, 9, 3, 4, 4]) == [False, True, False, False, True]
    assert same_start([1, 2, 3], [1, 2, 4]) == 2


def test_chance_is_shared_and_steady(tiny_llama: LoadedModel, finish: Callable[..., Any]) -> None:
    ids = tiny_llama.tokenizer(PROMPT, return_tensors="pt")["input_ids"]

    def drawn(temperature: float, seed: int) -> list[int]:
        return finish(write(tiny_llama.model, ids, Wish(24, temperature, seed))).ids

    assert drawn(1.0, 3) == drawn(1.0, 3) != drawn(1.0, 4)
    assert drawn(1e-6, 3) == drawn(0.0, 0)


def test_draws_follow_the_distribution(tiny_llama: LoadedModel, finish: Callable[..., Any]) -> None:
    ids = tiny_llama.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    shares = tiny_llama.model(input_ids=ids).logits[0, -1].double().softmax(-1)
    found = [finish(write(tiny_llama.model, ids, Wish(1, 1.0, seed))).ids[0] for seed in range(200)]
    top = int(shares.argmax())
    spread = (shares[top] * (1 - shares[top]) / 200).sqrt()
    assert abs(found.count(top) / 200 - shares[top]) < 4 * spread


def test_writing_ends_where_the_model_ends_it(tiny_llama: LoadedModel, finish: Callable[..., Any]) -> None:
    ids = tiny_llama.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    whole = finish(write(tiny_llama.model, ids, Wish(NEW))).ids
    ended = finish(write(tiny_llama.model, ids, Wish(NEW, ends=frozenset(whole[2:3])))).ids
    assert ended == whole[: whole.index(whole[2]) + 1]


def test_a_long_prompt_loses_its_beginning(
    tiny_llama: LoadedModel, texts: dict[str, str], finish: Callable[..., Result]
) -> None:
    spec: dict[str, Any] = asked(texts, scheme(4)) | {"prompt": "word " * 60}
    document = finish(studies.generate(tiny_llama, **spec)).document
    assert "were cut" in document["notes"][0]
    assert len(document["choices"][0]["ids"]) <= NEW


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"choices": []}, "0 choices were given"),
        ({"choices": [{"label": "x"}]}, "neither a scheme nor a plan"),
        ({"new_tokens": 0}, "new tokens has value 0"),
        ({"new_tokens": 128}, "reads at most 128"),
        ({"temperature": -1.0}, "temperature has value -1"),
        ({"temperature": float("nan")}, "temperature has value nan"),
        ({"prompt": ""}, "empty"),
        ({"method": "tea leaves"}, "unknown"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(
    wrong: dict[str, Any], sentence: str, tiny_llama: LoadedModel, texts: dict[str, str], finish: Callable[..., Result]
) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        finish(studies.generate(tiny_llama, **asked(texts, scheme(4)) | wrong))
