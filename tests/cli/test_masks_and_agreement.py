"""`workbench salience --mask` and `workbench agreement`."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file


def test_a_mask_of_each_row(command, tiny_llama_folder, tmp_path: Path) -> None:
    path = tmp_path / "mask.safetensors"
    given = [tiny_llama_folder, "--metric", "magnitude", "--mask", path, "--top", "0.05", "--mask-scope"]
    assert command("salience", *given, "row", "--quiet", "--json").code == 0
    mask = load_file(path)
    assert all(set(one.sum(1).tolist()) == {math.ceil(0.05 * one.shape[1])} for one in mask.values())
    refused = command("salience", *given, "column", "--quiet")
    assert refused.code == 2
    assert "unknown scope of a mask 'column'" in refused.err


def test_agreement_of_two_metrics(command, tiny_gpt2_folder, sizes, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    given = [tiny_gpt2_folder, "--metrics", "wanda, obd", "--json", "--out", path, *sizes]
    answer = command("agreement", *given)
    assert answer.code == 0, answer.err
    assert answer.document["metrics"] == ["wanda", "obd"]
    assert [row["matrix"] for row in answer.document["pairs"]] == [None] * 4
    assert answer.document["pairs"][1]["spearman"] > 0.999
    assert len(pd.read_csv(path)) == 4 * (1 + len(set(pd.read_csv(path)["matrix"].dropna())))
    refused = command("agreement", tiny_gpt2_folder, "--metrics", "wanda", *sizes)
    assert refused.code == 2
    assert "two or more" in refused.err
