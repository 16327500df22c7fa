"""Maps held against removals: brute force on a model, closed forms on one that is a sum, checks that must fire."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench
from workbench import studies
from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target, parse_target
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel, load
from workbench.registry import Method, attribution
from workbench.results import Result, dumps
from workbench.studies.map_checks import Question, class_spearman, randomised_spearman, shuffled_weights
from workbench.vocabulary import unknown_columns

PROMPT = "the cat sat"
METHODS = ["gradient", "input_x_gradient", "attention"]
TWO = {"quantizer": "rtn", "bits": 2, "group_size": 32, "symmetric": False, "options": {}}


@pytest.fixture(scope="module")
def compared(_session_llama: LoadedModel) -> Result:
    steps = studies.compare_attribution(
        _session_llama, prompt=PROMPT, methods=METHODS, marked=["cat"], group=["id:70", "id:71"], other_group=["id:80"]
    )
    return workbench.run(steps)


def test_the_document_holds_what_the_contract_names(compared) -> None:
    document = compared.document
    assert [row["name"] for row in document["methods"]] == METHODS
    asked = {"deletion_auc", "insertion_auc", "random_auc", "comprehensiveness", "sufficiency", "z", "completeness_gap"}
    assert all(asked <= row.keys() for row in document["methods"])
    for measure in ("spearman", "kendall", "top_k_overlap", "aiou"):
        square = np.array(document[measure], dtype=float)
        np.testing.assert_allclose(square, square.T)
        np.testing.assert_allclose(np.diag(square), 1)
    assert document["methods"][0]["plausibility"].keys() == {"auprc", "token_f1", "iou", "aiou", "pointing"}
    assert document["methods"][0]["rfxg"].keys() == {"pgs", "cgc", "cgc_code", "cgs", "cgs_code"}
    assert any("no sign of being right" in note for note in document["notes"])
    assert "NaN" not in dumps(document)
    assert [row["baseline"] for row in document["baseline_sensitivity"]] == ["eos"] * 3 + ["unk"] * 3 + ["mean"] * 3


def test_tables_are_tidy(compared) -> None:
    assert set(compared.tables) == {"methods", "curves", "agreement", "scores", "baselines"}
    assert not [name for table in compared.tables.values() for name in unknown_columns(table.columns)]
    curves = compared.tables["curves"]
    assert set(curves["method"]) == {*METHODS, "random"}
    first = curves[(curves["removed"] == 0) & (curves["curve"] == "deletion")]["value"]
    last = curves[(curves["removed"] == 1) & (curves["curve"] == "insertion")]["value"]
    assert first.tolist() == pytest.approx([compared.document["removal"]["full"]] * 4)
    assert last.tolist() == pytest.approx(first.tolist())


def test_areas_equal_a_loop_over_the_model(compared, tiny_llama) -> None:
    document = compared.document
    embeds = tiny_llama.model.get_input_embeddings()(torch.tensor([document["ids"]])).detach()
    end = tiny_llama.model.get_input_embeddings()(torch.tensor(tiny_llama.tokenizer.eos_token_id)).detach()
    token = document["target"]["ids"][0]
    for row in document["methods"]:
        scores = np.array(row["scores"])[1:]  # <s> stays
        values, inputs = [], embeds.clone()
        for place in [None, *np.argsort(-scores, kind="stable")]:
            if place is not None:
                inputs[0, place + 1] = end
            with torch.no_grad():
                values.append(float(tiny_llama.model(inputs_embeds=inputs).logits[0, -1, token]))
        assert row["deletion_auc"] == pytest.approx(np.trapezoid(values, dx=1 / len(scores)), abs=1e-5)


def test_the_full_and_the_quantized_model_answer_apart(tiny_llama, finish) -> None:
    given = {"prompt": PROMPT, "methods": ["gradient"], "checks": False, "measure": "logprob"}
    full = finish(studies.compare_attribution(tiny_llama, **given)).document
    quantized = finish(studies.compare_attribution(tiny_llama, **given, scheme=TWO)).document
    assert full["target"] == quantized["target"]
    assert full["removal"]["full"] < 0
    assert full["removal"]["full"] != quantized["removal"]["full"]
    assert full["methods"][0]["deletion_auc"] != quantized["methods"][0]["deletion_auc"]


def test_a_prompt_of_one_token_has_no_ranks(tiny_gpt2, finish) -> None:
    document = finish(studies.compare_attribution(tiny_gpt2, prompt="x", methods=["gradient", "attention"])).document
    assert document["spearman"] == [[None] * 2] * 2
    assert "NaN" not in dumps(document)


def test_a_method_that_refuses_is_listed_and_unknown_ones_are_not_run(tiny_llama, finish) -> None:
    wrong = {"attention": {"layer": 99}}
    given = {"prompt": PROMPT, "options": wrong, "checks": False}
    document = finish(studies.compare_attribution(tiny_llama, methods=["attention", "gradient"], **given)).document
    assert document["names"] == ["gradient"]
    assert "layer" in document["refused"][0]["reason"]
    for spec in (
        {**given, "methods": ["attention"]},
        {**given, "methods": ["gradient"]},
        {"prompt": PROMPT, "methods": []},
        {"prompt": PROMPT, "methods": ["nope"]},
        {"prompt": PROMPT, "methods": ["gradient"], "marked": ["dog"]},
        {"prompt": PROMPT, "methods": ["gradient"], "orders": 1},
        {"prompt": PROMPT, "methods": ["gradient"], "group": ["id:70"], "other_group": ["id:70"]},
    ):
        with pytest.raises(WorkbenchError):
            finish(studies.compare_attribution(tiny_llama, **spec))


def test_shuffled_weights_hold_the_same_numbers(tiny_gpt2) -> None:
    first, again, other = (shuffled_weights(tiny_gpt2, seed) for seed in (0, 0, 1))
    for name, weight in first.items():
        original = tiny_gpt2.model.get_parameter(name)
        assert torch.equal(weight, again[name])
        assert not torch.equal(weight, other[name])
        assert torch.equal(weight.flatten().sort().values, original.flatten().sort().values)


def test_a_map_that_does_not_look_is_found_out() -> None:
    demo = load("demo")
    adapter = Adapter(demo.model, demo.tokenizer, demo.context)
    read = adapter.encode("Lily had a red ball. She went to the park to play with her red")
    target = parse_target(adapter, read)

    def blind(adapter: Adapter, ids: torch.Tensor, target: Target) -> Attribution:
        return Attribution(torch.arange(ids.shape[1], dtype=torch.float64), 0.0)

    methods = (Method("attribution method", "blind", "", "", blind), attribution.get("gradient"))
    places = torch.arange(1, len(read.tokens))
    found = []
    for method in methods:
        question = Question(adapter, read.ids, target, method, method.parse_options(None))
        scores = question.answer().scores
        found.append([randomised_spearman(demo, question, scores, places, 0), class_spearman(question, scores, places)])
    assert found[0] == [pytest.approx(1), pytest.approx(1)]
    assert found[1][0] < 0.6
    assert found[1][1] < 0.999
