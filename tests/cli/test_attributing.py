"""`workbench compare-attribution` and `drift`: the keys of the contract, and one sentence for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from workbench.cli.attributing import read_prompts
from workbench.errors import WorkbenchError


def test_compare_attribution_answers_as_the_contract_says(command, tiny_llama_folder, tmp_path: Path) -> None:
    path = tmp_path / "methods.csv"
    asked = ["compare-attribution", tiny_llama_folder, "--prompt", "the cat", "--methods", "gradient,attention"]
    answer = command(*asked, "--no-checks", "--option", "norm=l1", "--json", "--out", path, "--quiet")
    assert answer.code == 0, answer.err
    found = answer.document
    assert [one["name"] for one in found["methods"]] == ["gradient", "attention"]
    assert found["methods"][0].keys() >= {"name", "deletion_auc", "insertion_auc", "random_auc"}
    assert [len(row) for row in found["spearman"]] == [2, 2]
    assert found["methods"][0]["options"]["norm"] == "l1"
    assert list(pd.read_csv(path)["method"]) == ["gradient", "attention"]
    for wrong in (["--option", "nope=1"], ["--measure", "nope"], ["--baseline", "nope"], ["--orders", 1]):
        refused = command(*asked, "--quiet", *wrong)
        assert (refused.code, refused.out) == (2, ""), wrong


def test_drift_answers_as_the_contract_says(command, tiny_llama_folder, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "drift.parquet"
    prompts.write_text("the cat sat\n\na dog ran\n")
    asked = ["drift", tiny_llama_folder, "--prompts", prompts, "--method", "gradient", "--json", "--quiet"]
    answer = command(*asked, "--bits", 2, "--group-size", 32, "--out", out)
    assert answer.code == 0, answer.err
    rows = answer.document["prompts"]
    assert [row["prompt"] for row in rows] == ["the cat sat", "a dog ran"]
    assert rows[0].keys() >= {"prompt", "spearman", "top_k_overlap", "sign_flips", "noise_floor"}
    assert rows[0]["noise_floor"] == 1
    assert pd.read_parquet(out)["spearman"].tolist() == [row["spearman"] for row in rows]
    usual = command(*asked).document["prompts"]  # rtn, 4 bits
    assert usual[0]["kl"] != rows[0]["kl"]
    assert usual[0]["kl"] > 0
    refused = command(*asked, "--option", "nope=1")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_prompts_are_read_from_lines_and_json(tmp_path: Path) -> None:
    lines, listed, held = (tmp_path / name for name in ("a.txt", "b.json", "c.json"))
    lines.write_text("[one]\n \ntwo\n", encoding="utf-8")
    listed.write_text(json.dumps(["one\nline", "two"]), encoding="utf-8")
    held.write_text(json.dumps({"prompts": [{"text": "one", "note": "x"}]}), encoding="utf-8")
    assert read_prompts(str(lines)) == ["[one]", "two"]
    assert read_prompts(str(listed)) == ["one\nline", "two"]
    assert read_prompts(str(held)) == ["one"]
    assert len(read_prompts("demo:prompts")) >= 4


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"[]", b"{}", b"\xff\xfe\x00", b"3"])
def test_a_file_without_prompts_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_bytes(content)
    with pytest.raises(WorkbenchError, match="--prompts has value"):
        read_prompts(str(path))
    with pytest.raises(WorkbenchError, match="could not be read"):
        read_prompts(str(tmp_path / "missing.txt"))


def test_an_option_that_nobody_has_is_refused_also_without_a_quantizer(command) -> None:
    given = ["--prompt", "Tom had a red ball.", "--method", "gradient", "--option", "depth=3", "--json", "--quiet"]
    answer = command("attribute", "demo", *given)
    assert (answer.code, answer.out) == (2, "")
    assert "'depth', which none of the attribution methods has" in answer.err
