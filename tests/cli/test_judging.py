"""`workbench court`, `detach` and `windows`: the keys of the contract, and one sentence for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def both(sizes: list[object], little_texts: tuple[Path, Path]) -> list[object]:
    return [*sizes, "--text", little_texts[1]]


def test_court_answers_as_the_contract_says(command, tiny_llama_folder, both, tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    answer = command("court", tiny_llama_folder, "--bits", "3", "--group-size", 32, "--json", "--out", path, *both)
    assert answer.code == 0, answer.err
    found = answer.document
    names = ["first_order", "second_order", "fisher", "pqi", "pqi_own", "output_error"]
    assert [metric["name"] for metric in found["metrics"]] == names
    for metric in found["metrics"]:
        assert metric.keys() >= {
            "name",
            "total_log10_error",
            "spearman_isolated_calibration",
            "spearman_isolated_heldout",
            "median_isolated_log10_error",
        }
        assert list(metric["total_log10_error"]) == ["3"]
    assert found["cells"][0].keys() >= {"matrix", "bits", "metric", "predicted", "measured_isolated", "path_share"}
    assert found["totals"][0].keys() >= {"bits", "measured", "sum_isolated"}
    pqi = next(metric for metric in found["metrics"] if metric["name"] == "pqi")
    assert pqi["total_log10_error"]["3"] < 0.01
    assert len(pd.read_csv(path)) == 14 * len(names)


def test_detach_keeps_percentages(command, tiny_llama_folder, both) -> None:
    given = ["--metrics", "magnitude", "--bits", 2, "--group-size", 32, "--shares", "0.5,10", "--json"]
    answer = command("detach", tiny_llama_folder, *given, *both)
    assert answer.code == 0, answer.err
    assert [(p["metric"], p["share"]) for p in answer.document["points"]] == [
        (metric, share) for metric in ("magnitude", "random") for share in (0.005, 0.1)
    ]
    refused = command("detach", tiny_llama_folder, "--shares", "some", *both)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "give percentages separated by commas" in refused.err


def test_windows_are_listed(command, tiny_gpt2_folder, sizes) -> None:
    answer = command("windows", tiny_gpt2_folder, "--json", *sizes)
    assert answer.code == 0, answer.err
    assert sum(row["fisher_share"] for row in answer.document["windows"]) == pytest.approx(1.0)
    assert len(answer.document["windows"]) == 8
