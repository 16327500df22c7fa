"""The study `attribute`: what its document says of targets, units, chat, cuts and quantized weights."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import pytest

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.registry import attribution
from workbench.results import Result, dumps, load, save
from workbench.studies.context import Context

TWO = {"quantizer": "rtn", "bits": 2, "group_size": 32, "symmetric": False, "options": {}}
PROMPT = "the {who} sat 😀. It ran"
FEW = {"nodes": 4, "max_nodes": 4, "baselines": 2, "steps": 6, "samples": 8, "pairs": 2}
"""Cheap options, where numbers need not be good."""
SLOTS = {"who": "old cat"}
TEMPLATE = "{{ bos_token }}[{{ messages[0]['content'] }}]"


def asked(loaded: LoadedModel, finish: Any, **keywords: Any) -> dict[str, Any]:
    keywords = {"prompt": PROMPT, "method": "occlusion", "slots": SLOTS, **keywords}
    return finish(studies.attribute(loaded, **keywords)).document


@pytest.fixture
def chatty(tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    monkeypatch.setattr(tiny_llama.tokenizer, "chat_template", TEMPLATE)
    return tiny_llama


def test_units_of_every_granularity_add_up(tiny_llama, finish) -> None:
    documents = {name: asked(tiny_llama, finish, granularity=name) for name in ("token", "word", "sentence", "slot")}
    total = sum(documents["token"]["scores"])
    for name, document in documents.items():
        rows = document["units"]
        assert [[row["start"], row["end"]] for row in rows] == document["spans"][name]
        assert sum(row["score"] for row in rows) == pytest.approx(total)
        assert document["aggregation"] == "sum"
    words = [row["text"] for row in documents["word"]["units"]]
    assert words == ["<s>", "the", "old", "cat", "sat", "😀", ".", "It", "ran"]
    assert [row["text"] for row in documents["sentence"]["units"]] == ["<s>", "the old cat sat 😀.", "It ran"]
    assert [row["slot"] for row in documents["slot"]["units"]] == [None, None, "who", None]
    assert documents["slot"]["slots"][0]["text"] == "old cat"


def test_without_a_granularity_there_are_spans_and_no_units(tiny_llama, finish) -> None:
    document = asked(tiny_llama, finish, slots=None, prompt="the cat")
    assert document["units"] is None
    assert set(document["spans"]) == {"token", "word", "sentence", "slot"}
    assert document["spans"]["slot"] == []
    assert document["slots"] == []


def test_sizes_are_gathered_by_the_largest(tiny_llama, finish) -> None:
    document = asked(tiny_llama, finish, method="gradient", granularity="word")
    assert (document["signed"], document["aggregation"]) == (False, "max")
    for row in document["units"]:
        assert row["score"] == max(document["scores"][row["start"] : row["end"]])
    mean = asked(tiny_llama, finish, method="gradient", granularity="word", aggregation="mean")["units"]
    assert mean[1]["score"] == pytest.approx(sum(document["scores"][1:4]) / 3)


@pytest.mark.parametrize("method", attribution.names())
def test_every_method_explains_a_span_and_scores_nothing_else(method: str, tiny_llama, finish) -> None:
    few = {option.name: FEW[option.name] for option in attribution.get(method).options if option.name in FEW}
    document = asked(
        tiny_llama, finish, method=method, prompt="a cat sat", slots=None, explain=[6, 9], scheme=TWO, options=few
    )
    count = len(document["tokens"])
    assert count == 9
    assert document["fixed"] == [False] * 6 + [True] * 3
    assert document["scores"][6:] == [0.0] * 3
    assert document["held_fixed"][6:] == [True] * 3
    assert any(document["scores"][:6])
    assert document["target"]["kind"] == "continuation"
    assert document["target"]["sides"] == [document["ids"][6:]]
    assert any("cut: they cannot have a part in it" in note for note in document["notes"])
    assert any("dense weights: products of packed codes have no gradient" in note for note in document["notes"])
    json.loads(dumps(document))


def test_what_the_linearised_network_gives_to_fixed_tokens_completes_the_sum(tiny_llama, finish) -> None:
    model = asked(tiny_llama, finish, method="linearised", target="logit:a", slots=None, prompt="the cat")
    assert model["held_score"] is None
    assert sum(model["scores"]) == pytest.approx(model["value"], rel=1e-3)


def test_a_chat_holds_its_template(chatty: LoadedModel, finish) -> None:
    document = asked(chatty, finish, chat=True, method="linearised", target="logit:a", granularity="slot")
    assert document["text"] == "<s>[the old cat sat 😀. It ran]"
    assert document["prompt"] == PROMPT
    assert document["fixed"] == [True, True, *[False] * (len(document["tokens"]) - 3), True]
    assert document["scores"][-1] == 0
    assert sum(document["scores"]) + document["held_score"] == pytest.approx(document["value"], rel=1e-3)
    assert [row["text"] for row in document["units"] if row["slot"]] == ["old cat"]
    assert any("fixed tokens are shown with 0" in note for note in document["notes"])


def test_a_chat_without_a_template_is_refused(tiny_llama, finish) -> None:
    with pytest.raises(WorkbenchError, match="this tokenizer has no chat template"):
        asked(tiny_llama, finish, chat=True)


def test_a_prompt_over_the_context_is_cut_and_says_so(tiny_llama, finish) -> None:
    document = asked(tiny_llama, finish, prompt="x" * 11_000 + "yz", slots=None, method="gradient")
    assert len(document["tokens"]) == tiny_llama.context
    assert document["tokens"][:2] == ["<s>", "x"]
    assert document["tokens"][-2:] == ["y", "z"]
    assert document["notes"][:2] == [
        "the prompt has 11002 characters and 10000 are read: its first 1002 were cut",
        "the prompt has 10001 tokens and there is room for 128: its first 9873 were cut",
    ]


def test_the_target_of_the_full_model_is_kept_in_the_quantized_one(tiny_llama, finish) -> None:
    full, quantized = (
        asked(tiny_llama, finish, target="kl:", method="occlusion", scheme=scheme) for scheme in (None, TWO)
    )
    assert full["value"] == pytest.approx(0.0, abs=1e-6)
    assert quantized["value"] > 1e-4


def test_a_document_comes_back_from_disk_as_it_was(tiny_llama, finish, tmp_path) -> None:
    result: Result = finish(studies.attribute(tiny_llama, prompt="the cat", method="occlusion", granularity="word"))
    save(result, tmp_path / "kept")
    kept = load(tmp_path / "kept")
    assert kept is not None
    assert kept.document == json.loads(dumps(result.document))
    packed = b"".join(struct.pack("<q", index) for index in result.document["ids"])
    assert result.document["ids_sha256"] == hashlib.sha256(packed).hexdigest()
    assert json.loads(dumps({"scores": [float("nan"), float("inf"), 1.0]})) == {"scores": [None, None, 1.0]}
    assert list(result.tables["units"]["score"]) == [row["score"] for row in result.document["units"]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"granularity": "line"},
        {"granularity": "slot", "slots": None, "prompt": "the cat"},
        {"aggregation": "median"},
        {"slots": {"nobody": "x y z"}},
        {"explain": [0, 1]},
        {"explain": [1, 2, 3]},
        {"target": "continuation:" + "x" * 200},
        {"target": 'group:["a"]', "contrast": '["a"]'},
        {"target": "entropy:", "contrast": "a"},
        {"prompt": "", "slots": None},
    ],
)
def test_bad_questions_are_refused_in_one_sentence(
    wrong: dict[str, Any], tiny_llama, tiny_llama_folder, finish
) -> None:
    spec = {"model": str(tiny_llama_folder), "prompt": PROMPT, "slots": SLOTS, "method": "gradient", **wrong}
    with pytest.raises(WorkbenchError) as refused:
        finish(studies.start("attribute", spec, Context()))
    assert "\n" not in str(refused.value)
