"""`workbench salience` with every metric by name, on tiny models of two makes, the embedded one and a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workbench.registry import salience

FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "opt": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
    },
}
every_metric = pytest.mark.parametrize("metric", salience.names())


def second_text(metric: str, text: Path) -> list[object]:
    return ["--text2", text] if salience.get(metric).traits.get("second_text") else []


@pytest.fixture(scope="module")
def folders(make_model_folder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: make_model_folder(root / family, family, **FAMILIES[family]) for family in FAMILIES}


@every_metric
@pytest.mark.parametrize("family", ["gpt2", pytest.param("opt", marks=pytest.mark.slow)])
def test_on_a_type(metric: str, family: str, command, folders, sizes, little_texts) -> None:
    given = [folders[family], "--metric", metric, "--json", *sizes, *second_text(metric, little_texts[1])]
    answer = command("salience", *given)
    assert answer.code == 0, answer.err
    assert len(answer.document["matrices"]) >= 8


@pytest.mark.parametrize("metric", ["wanda", "hinv2", "salun", "kl", "pqi"])
def test_on_the_embedded_model(metric: str, command) -> None:
    """A second text and a quantizer have defaults there; every kind of pass once."""
    answer = command("salience", "demo", "--metric", metric, "--json", "--quiet", "--tokens", 512)
    assert answer.code == 0, answer.err
    rows = answer.document["matrices"]
    assert len(rows) == 35
    assert any(row["max"] > 0 for row in rows)


@every_metric
@pytest.mark.slow
def test_on_a_real_gpt2(metric: str, command, shared_models, little_texts) -> None:
    folder = shared_models / "classic-gpt2"
    sizes = ["--calibration", little_texts[0], "--tokens", 128, "--window", 32, "--quiet"]
    answer = command("salience", folder, "--metric", metric, "--json", *sizes, *second_text(metric, little_texts[1]))
    assert answer.code == 0, answer.err
    assert len(answer.document["matrices"]) == 16


def test_a_quantizer_and_a_second_text_on_the_command_line(command, folders, sizes, little_texts) -> None:
    given = ["salience", folders["gpt2"], "--metric", "pqi", "--json", *sizes]
    two = command(*given, "--bits", 2, "--option", "nodes=2").document
    assert two["quantization"]["scheme"]["bits"] == 2
    assert two["gradients"]["passes"] == 2
    assert two["total"] > command(*given).document["total"]
    refused = command("salience", folders["gpt2"], "--metric", "salun", "--json", *sizes)
    assert (refused.code, refused.out) == (2, "")
    assert "--text2" in refused.err
