"""Drift of maps, damage by matrix and token, blame by token: nothing where nothing changed, more for fewer bits."""

from __future__ import annotations

import pytest
import torch

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices
from workbench.model.overlay import overlay
from workbench.registry import attribution
from workbench.results import dumps
from workbench.studies.attribute import quantized_weights
from workbench.studies.drift import another_draw
from workbench.vocabulary import unknown_columns

PROMPTS = ["the cat sat", "a dog ran off"]
STORIES = [
    "Lily had a red ball. She went to the park to play with her red",
    "Tim lost his toy car. He looked under the bed. His mom said, Tim, I found your toy",
    "Once upon a time there was a big dog. The dog was very",
    "The sun was hot. Ben wanted to drink some cold",
    "Anna was sad because she lost her",
    "The bird sat in the tree and sang a",
]


def scheme(bits: int) -> dict[str, object]:
    return {"quantizer": "rtn", "bits": bits, "group_size": 32, "symmetric": False, "options": {}}


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
def test_identical_models_do_not_drift(method: str, tiny_llama, finish) -> None:
    result = finish(studies.drift(tiny_llama, prompts=PROMPTS, method=method))
    for row in result.document["prompts"]:
        assert row["full_scores"] == row["quantized_scores"]
        assert (row["spearman"], row["kendall"], row["aiou"]) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))
        assert (row["top_k_overlap"], row["sign_flips"], row["l1"], row["centre_shift"], row["kl"]) == (1, 0, 0, 0, 0)
        assert row["same_answer"] is True
    assert not result.tables["tokens"]["drift"].any()
    assert not [name for table in result.tables.values() for name in unknown_columns(table.columns)]


def test_a_row_a_prompt_with_the_keys_of_the_contract(tiny_gpt2, finish) -> None:
    document = finish(
        studies.drift(tiny_gpt2, prompts=PROMPTS, method="integrated_gradients", scheme=scheme(2), top_k=2)
    ).document
    assert [row["prompt"] for row in document["prompts"]] == PROMPTS
    assert "NaN" not in dumps(document)
    for row in document["prompts"]:
        assert {"spearman", "top_k_overlap", "sign_flips", "noise_floor"} <= row.keys()
        assert row["spearman"] < row["noise_floor"] <= 1 + 1e-9
        # the drift of a map that adds up adds up too
        gone = sum(row["full_scores"]) - sum(row["quantized_scores"])
        assert abs(gone) > 1e-3


def test_fewer_bits_drift_further_on_a_trained_model() -> None:
    demo = load("demo")
    found = {
        bits: workbench.run(studies.drift(demo, prompts=STORIES, method="gradient", scheme=scheme(bits))).document[
            "mean"
        ]
        for bits in (2, 4, 8)
    }
    for measure in ("spearman", "aiou", "kendall"):
        assert found[2][measure] < found[4][measure] < found[8][measure]
    assert found[2]["l1"] > found[4]["l1"] > found[8]["l1"] > 0
    assert found[8]["spearman"] > 0.98


def test_another_draw_changes_chance_alone() -> None:
    path, exact = attribution.get("integrated_gradients"), attribution.get("gradient")
    settings = path.parse_options({"nodes": 10})
    assert another_draw(path, settings) == {**settings, "nodes": 15}
    assert another_draw(path, {**settings, "nodes": 512}) == {**settings, "nodes": 342}
    assert another_draw(exact, exact.parse_options(None)) is None


def test_drift_refuses_in_a_sentence(tiny_llama, finish) -> None:
    for spec in (
        {"prompts": []},
        {"prompts": PROMPTS, "top_k": 0},
        {"prompts": ["a", ""]},
        {"prompts": ["a"], "method": "nope"},
    ):
        with pytest.raises(WorkbenchError):
            finish(studies.drift(tiny_llama, **spec))


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
def test_damage_adds_up_to_what_was_measured(model: str, request, finish) -> None:
    loaded: LoadedModel = request.getfixturevalue(model)
    given = {"prompt": PROMPTS[0], "scheme": scheme(3)}
    result = finish(studies.damage_map(loaded, **given))
    document = result.document
    asked = {"method": "gradient", "prompt": PROMPTS[0]}
    values = [finish(studies.attribute(loaded, **asked, scheme=one)).document["value"] for one in (None, scheme(3))]
    change = values[0] - values[1]
    assert sum(document["by_matrix"]) == pytest.approx(change, abs=1e-3 * max(abs(change), 0.1))
    assert sum(document["by_token"]) == pytest.approx(sum(document["by_matrix"]))
    assert document["matrices"] == [matrix.name for matrix in quantizable_matrices(loaded.model)]
    assert len(result.tables["damage"]) == len(document["matrices"]) * len(document["tokens"])
    assert not unknown_columns(result.tables["damage"].columns)
    assert "NaN" not in dumps(document)


def test_damage_needs_something_that_was_quantized(tiny_llama, finish) -> None:
    for spec in ({}, {"scheme": scheme(3), "nodes": 0}):
        with pytest.raises(WorkbenchError):
            finish(studies.damage_map(tiny_llama, prompt="cat", **spec))


def test_nobody_is_to_blame_when_the_models_are_the_same(tiny_llama, finish) -> None:
    document = finish(studies.blame(tiny_llama, prompt=PROMPTS[0])).document
    assert document["scores"] == [0.0] * len(document["tokens"])
    assert (document["kl"], document["worst"]) == (0, [])


def test_blame_equals_a_loop_over_both_models(tiny_llama, finish) -> None:
    result = finish(studies.blame(tiny_llama, prompt=PROMPTS[0], scheme=scheme(2)))
    document = result.document
    end, model = tiny_llama.tokenizer.eos_token_id, tiny_llama.model
    rounded = workbench.run(quantized_weights(tiny_llama, scheme(2), None, None, studies.Context()))

    def divergence(ids: list[int]) -> float:
        with torch.no_grad():
            full = model(torch.tensor([ids])).logits[0, -1].double().log_softmax(0)
            with overlay(model, rounded):
                other = model(torch.tensor([ids])).logits[0, -1].double().log_softmax(0)
        return float((full.exp() * (full - other)).sum())

    ids = document["ids"]
    whole = divergence(ids)
    expected = [whole - divergence([*ids[:place], end, *ids[place + 1 :]]) for place in range(1, len(ids))]
    assert document["kl"] == pytest.approx(whole, rel=1e-4)
    assert document["scores"][1:] == pytest.approx(expected, abs=1e-5)
    assert document["scores"][0] == 0  # <s> stays
    assert [row["blame"] for row in document["worst"]] == sorted((s for s in document["scores"] if s > 0), reverse=True)
    assert not unknown_columns(result.tables["tokens"].columns)
