"""`workbench attribute`: targets, spans, slots, units and chat from the shell."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

CONTRACT = {
    *("tokens", "ids", "scores", "target", "value", "baseline_value", "completeness_gap", "method", "options"),
}


def test_units_slots_and_continuations(command, tiny_llama_folder, tmp_path: Path) -> None:
    out = tmp_path / "units.csv"
    asked = ["attribute", tiny_llama_folder, "--prompt", "the {who} sat", "--slot", "who=old cat", "--quiet", "--json"]
    more = ["--method", "occlusion", "--granularity", "slot", "--target", "continuation: on", "--contrast", " in it"]
    answer = command(*asked, *more, "--out", out)
    assert answer.code == 0, answer.err
    found = answer.document
    assert found.keys() >= CONTRACT
    assert set(found["units"][0]) == {"text", "start", "end", "score", "slot"}
    assert [row["text"] for row in found["units"] if row["slot"] == "who"] == ["old cat"]
    assert list(pd.read_csv(out)["text"])[:3] == ["<s>", "the", "old cat"]
    assert found["target"]["label"] == "log-probability of ' on' minus log-probability of ' in it'"


def test_a_span_is_explained(command, tiny_llama_folder) -> None:
    asked = ["attribute", tiny_llama_folder, "--prompt", "the cat", "--method", "gradient", "--quiet", "--json"]
    found = command(*asked, "--explain", "5:8").document
    assert found["explain"] == [5, 8]
    assert found["target"]["sides"] == [found["ids"][5:8]]
    assert command(*asked).document["explain"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        ["--explain", "5"],
        ["--explain", "5:x"],
        ["--explain", "-1:2"],
        ["--explain", "5:99"],
        ["--slot", "who"],
        ["--slot", "who="],
        ["--granularity", "line"],
        ["--aggregation", "median"],
        ["--chat"],
        ["--target", "group:a"],
        ["--target", 'group:["a","b"]', "--contrast", '["b"]'],
        ["--target", "continuation:"],
    ],
)
def test_bad_input_is_one_sentence(wrong: list[str], command, tiny_llama_folder) -> None:
    answer = command("attribute", tiny_llama_folder, "--prompt", "the cat", "--method", "gradient", "--quiet", *wrong)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1), answer.err


def test_targets_of_several_kinds(command, tiny_llama_folder) -> None:
    asked = ["attribute", tiny_llama_folder, "--prompt", "the cat", "--method", "gradient", "--quiet", "--json"]
    values = {
        target: command(*asked, "--target", target).document["value"]
        for target in ('group:["a","b"]', 'attentiveness:["a"]', "entropy:")
    }
    assert values['group:["a","b"]'] < 0 < values['attentiveness:["a"]'] < 1
    assert 0 < values["entropy:"] < 6
