"""`workbench salience` on every family of models that the project names: tiny random ones, and a real GPT-2 type."""

from __future__ import annotations

from typing import Any

import pytest

GATED = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
PLAIN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GATED,
    # Qwen's tokenizer class adds an end-of-text token of its own
    "qwen2": GATED | {"vocab_size": 264},
    "qwen3": GATED | {"head_dim": 8, "vocab_size": 264},
    "mistral": GATED,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "opt": PLAIN | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gpt_neox": PLAIN | {"intermediate_size": 48},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_salience_of_a_family(family: str, command, make_model_folder, sizes, tmp_path) -> None:
    folder = make_model_folder(tmp_path / family, family, **FAMILIES[family])
    answer = command("salience", folder, "--metric", "wanda", "--json", *sizes)
    assert answer.code == 0, answer.err
    rows = answer.document["matrices"]
    assert len(rows) >= 8
    assert all(row["mean"] > 0 and 0 < row["gini"] < 1 for row in rows)


def test_salience_of_a_real_gpt2(command, shared_models, little_texts) -> None:
    folder = shared_models / "classic-gpt2"
    sizes = ["--calibration", little_texts[0], "--tokens", 128, "--window", 32, "--quiet"]
    answer = command("salience", folder, "--metric", "activation", "--json", *sizes)
    assert answer.code == 0, answer.err
    assert len(answer.document["matrices"]) == 16
