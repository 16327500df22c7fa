"""`workbench evaluate` with every quantizer by name, and a plan that names another one for every matrix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.registry import quantizers

every_quantizer = pytest.mark.parametrize("name", quantizers.names())
QUICK = {"ptq161": ["--option", "epochs=1"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "opt": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "ffn_dim": 48,
        "word_embed_proj_dim": 16,
    },
    "gpt_neox": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "mistral": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    },
}


def width(name: str) -> list[object]:
    return [] if quantizers.get(name).traits.get("fixed_width") else ["--bits", 3]


def check(document: dict[str, Any], matrices: int) -> None:
    assert len(document["matrices"]) == matrices
    assert document["perplexity"] > 1
    assert 1 <= document["stored_bits"] < 16
    assert all(0 < row["output_error"] < 1.5 for row in document["matrices"])


@every_quantizer
@pytest.mark.slow
def test_on_the_embedded_model(name: str, command) -> None:
    given = ["--quantizer", name, *width(name), *QUICK.get(name, []), "--tokens", 1024, "--json", "--quiet"]
    answer = command("evaluate", "demo", *given)
    assert answer.code == 0, answer.err
    check(answer.document, 35)
    assert answer.document["perplexity"] > answer.document["reference"]["perplexity"]


@every_quantizer
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_type(name: str, family: str, command, make_model_folder, sizes, little_texts, tmp_path: Path) -> None:
    """OPT's embeddings have projections of their own, outside of all blocks."""
    folder = make_model_folder(tmp_path / family, family, **FAMILIES[family])
    given = ["--quantizer", name, *width(name), *QUICK.get(name, []), "--text", little_texts[1], "--json", *sizes]
    answer = command("evaluate", folder, *given)
    if quantizers.get(name).traits["scope"] == "block" and family == "opt":
        assert answer.code == 2
        assert "lies in no block" in answer.err
        return
    assert answer.code == 0, answer.err
    assert answer.document["stored_bits"] < 16


@every_quantizer
@pytest.mark.slow
def test_on_a_real_gpt2(name: str, command, shared_models, little_texts) -> None:
    sizes = ["--calibration", little_texts[0], "--text", little_texts[1], "--tokens", 256, "--window", 64, "--quiet"]
    given = ["--quantizer", name, *width(name), *QUICK.get(name, []), "--json", *sizes]
    answer = command("evaluate", shared_models / "classic-gpt2", *given)
    assert answer.code == 0, answer.err
    check(answer.document, 16)


@pytest.mark.slow
def test_a_plan_may_name_another_quantizer_for_every_matrix(command, tmp_path: Path) -> None:
    plan = command("allocate", "demo", "--budget", 3.5, "--tokens", 512, "--json", "--quiet").document
    names = ["gptq", "awq", "billm", "hqq", "squeezellm", "requant", "rtn"]
    for place, tensor in enumerate(plan["tensors"].values()):
        tensor["method"] = names[place % len(names)]
        tensor["bits"] = 1 if tensor["method"] == "billm" else 3
        tensor["group_size"] = {"billm": 128, "squeezellm": -1}.get(tensor["method"], 64)
        tensor["symmetric"], tensor["method_options"] = False, {}
        tensor["storage_bits"] = int(3.5 * tensor["numel"])
    plan["budget"]["solved"] = None
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    answer = command("evaluate", "demo", "--plan", tmp_path / "plan.json", "--tokens", 1024, "--json", "--quiet")
    assert answer.code == 0, answer.err
    check(answer.document, 35)
    of_first = command("evaluate", "demo", "--quantizer", "gptq", "--bits", 3, "--tokens", 1024, "--json", "--quiet")
    first = answer.document["matrices"][0]
    assert first == of_first.document["matrices"][0]  # q_proj of the first block, which nothing stands before


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--quantizer", "billm", "--bits", 2], "has a fixed width and takes no bits"),
        (["--quantizer", "squeezellm", "--bits", 8], "has no 8 bits; choose one of: 2, 3, 4"),
        (["--quantizer", "hqq", "--bits", 4, "--symmetric"], "has no symmetric grid"),
        (["--quantizer", "gptq", "--bits", 4, "--option", "inputs=mine"], "quantized, full, sequential"),
        (["--quantizer", "requant", "--bits", 4, "--option", "dense=nf4"], "unknown quantizer 'nf4'"),
    ],
    ids=lambda given: " ".join(map(str, given)) if isinstance(given, list) else "",
)
def test_what_a_quantizer_cannot_do_is_one_sentence(given: list[object], sentence: str, command) -> None:
    answer = command("evaluate", "demo", *given, "--tokens", 512, "--json", "--quiet")
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err
    assert answer.err.count("\n") == 1
