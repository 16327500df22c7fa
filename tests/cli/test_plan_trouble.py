"""Plans and tables that are of something else than the model at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file


@pytest.fixture
def almost_the_same(tiny_llama_folder: Path, tmp_path: Path) -> Path:
    """The tiny Llama with one matrix a little larger: every name and shape is the same."""
    folder = tmp_path / "almost"
    folder.mkdir()
    for one in tiny_llama_folder.iterdir():
        (folder / one.name).write_bytes(one.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] *= 1.01
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_table_of_another_model_is_refused_by_its_digest(
    command: Any, tiny_llama_folder: Path, almost_the_same: Path, sizes: list[object], little_texts, tmp_path: Path
) -> None:
    cells = tmp_path / "cells.json"
    assert command("sensitivity", tiny_llama_folder, "--bits", "2,4", "--out", cells, *sizes).code == 0
    deciding = {
        "allocate": ("--budget", 3.5),
        "pareto": ("--budgets", 3.5, "--text", little_texts[1]),
    }
    for name, more in deciding.items():
        answer = command(name, almost_the_same, *more, "--bits", "2,4", "--from", cells, *sizes)
        assert answer.code == 2
        assert answer.err.startswith(
            "workbench: the sensitivity table is of another model, 'tiny-llama': its digest is"
        )
        assert "that of 'almost' is" in answer.err
    guarded = command("allocate", almost_the_same, "--max-kl", 1, "--from", cells, *sizes)
    assert "the sensitivity table is of another model" in guarded.err


def test_a_plan_in_other_words_is_sent_to_import(command: Any, tmp_path: Path) -> None:
    held = tmp_path / "quantize_config.json"
    held.write_text(json.dumps({"bits": 4, "dynamic": {}}))
    answer = command("export", held, "--to", "hqq")
    assert answer.code == 2
    assert answer.err == (
        "workbench: the plan lacks schema; `workbench import MODEL quantize_config.json` reads plans made elsewhere\n"
    )
