"""Every command of the contract: keys of its JSON, files that it writes, exit codes, one sentence for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from workbench.allocation.plan import parse, schemes, stored_bits
from workbench.registry import KINDS

WORKBENCH = Path(sys.executable).with_name("workbench")


def test_methods_lists_everything_that_is_registered(command) -> None:
    document = command("methods", "--json").document
    assert set(document) == {"salience", "quantizers", "attribution"}
    for kind, registry in KINDS.items():
        assert [method["name"] for method in document[kind]] == registry.names()
    method = next(m for m in document["attribution"] if m["name"] == "integrated_gradients")
    assert {"name", "summary", "reference", "needs", "options"} <= set(method)
    assert {"name", "type", "default", "choices"} <= set(method["options"][0])
    assert list(command("methods", "quantizers", "--json").document) == ["quantizers"]
    assert command("methods", "nope").code == 2


def test_inspect(command, tiny_llama_folder) -> None:
    document = command("inspect", tiny_llama_folder, "--json", "--quiet").document
    assert {"id", "digest", "parameters"} <= set(document["model"])
    assert set(document["matrices"][0]) == {"name", "block", "role", "site", "shape", "parameters"}
    assert document["skipped"]


def test_salience_with_tensors_and_table(command, tiny_gpt2_folder, sizes, tmp_path) -> None:
    tensors, table = tmp_path / "scores.safetensors", tmp_path / "scores.csv"
    answer = command(
        "salience", tiny_gpt2_folder, "--metric", "wanda", "--json", "--tensors", tensors, "--out", table, *sizes
    )
    row = answer.document["matrices"][0]
    assert {"name", "mean", "max", "gini", "top1pct_share", "channels"} <= set(row)
    assert set(row["channels"]["top"][0]) == {"index", "score"}
    assert tensors.exists()
    assert pd.read_csv(table)["mean"].tolist()[0] == pytest.approx(row["mean"])


def test_evaluate_full_quantized_and_by_plan(command, tiny_llama_folder, little_texts, sizes, tmp_path) -> None:
    asked = ["evaluate", tiny_llama_folder, "--text", little_texts[1], "--json", *sizes]
    document = command(*asked, "--quantizer", "rtn", "--bits", 3, "--group-size", 64).document
    expected = {
        "perplexity", "loss", "standard_error", "tokens", "window", "reference", "kl_mean", "kl_p99",
        "top1_agreement", "stored_bits", "nominal_bits", "matrices",
    }  # fmt: skip
    assert expected <= set(document)
    assert set(document["matrices"][0]) == {"name", "weight_error", "output_error", "stored_bits"}
    assert command(*asked).document["perplexity"] == pytest.approx(document["reference"]["perplexity"])
    plan = tmp_path / "plan.json"
    made = command("allocate", tiny_llama_folder, "--budget", 8.0, "--bits", "3,8", "--out", plan, *sizes)
    assert made.code == 0, made.err
    by_plan = command(*asked, "--plan", plan).document
    assert by_plan["stored_bits"] == pytest.approx(stored_bits(parse(plan.read_bytes())), rel=1e-9)
    assert command(*asked, "--plan", plan, "--bits", 3).code == 2


def test_sensitivity_feeds_allocate(command, tiny_llama_folder, sizes, tmp_path) -> None:
    for ending in ("parquet", "csv", "json"):
        cells, plan = tmp_path / f"cells.{ending}", tmp_path / f"plan-{ending}.json"
        swept = command("sensitivity", tiny_llama_folder, "--bits", "2,4", "--out", cells, "--json", *sizes)
        assert {"reference_loss", "cells", "reused", "computed"} <= set(swept.document)
        assert {"matrix", "bits", "group_size", "quantizer", "value", "standard_error"} <= set(
            swept.document["cells"][0]
        )
        made = command(
            "allocate", tiny_llama_folder, "--budget", 3.6, "--from", cells, "--bits", "2,4", "--out", plan, "--quiet"
        )
        assert made.code == 0, made.err
    plans = [parse((tmp_path / f"plan-{ending}.json").read_bytes()) for ending in ("parquet", "csv", "json")]
    assert 2.5 <= stored_bits(plans[0]) <= 3.6
    # a csv file carries the cells alone: the widths are the same, the facts of the measurement are not there
    assert all(schemes(plan) == schemes(plans[0]) for plan in plans)
    assert plans[2].tensors == plans[0].tensors
    assert swept.document["reused"] == len(swept.document["cells"])


def test_allocate_refuses_budgets_and_locks_that_cannot_be(command, tiny_llama_folder, sizes, tmp_path) -> None:
    cells = tmp_path / "cells.parquet"
    assert command("sensitivity", tiny_llama_folder, "--bits", "2,4", "--out", cells, *sizes).code == 0
    asked = ["allocate", tiny_llama_folder, "--from", cells, "--bits", "2,4", "--quiet"]
    for wrong in (
        ["--budget", 1],
        ["--budget", 40],
        ["--budget", "nan"],
        ["--budget", 3.6, "--lock", "nope=2"],
        ["--budget", 3.6, "--lock", "model.layers.0.mlp.up_proj.weight=3"],
        ["--budget", 3.6, "--solver", "magic"],
        ["--budget", 3.6, "--from", tmp_path / "missing.parquet"],
    ):
        answer = command(*asked, *wrong)
        assert answer.code == 2, wrong
        assert_one_sentence(answer)
    locked = command(*asked, "--budget", 3.6, "--lock", "model.layers.0.mlp.up_proj.weight=4").document
    assert locked["tensors"]["model.layers.0.mlp.up_proj.weight"]["bits"] == 4


def test_attribute(command, tiny_gpt2_folder) -> None:
    asked = ["attribute", tiny_gpt2_folder, "--prompt", "the cat sat", "--json", "--quiet"]
    document = command(*asked, "--method", "integrated_gradients", "--option", "nodes=8").document
    expected = {
        "tokens", "ids", "scores", "target", "value", "baseline_value", "completeness_gap", "method", "options",
    }  # fmt: skip
    assert expected <= set(document)
    assert document["options"]["nodes"] == 8
    contrast = command(*asked, "--method", "gradient", "--target", "id:70", "--contrast", "id:71").document
    assert contrast["target"]["kind"] == "contrast"
    quantized = command(*asked, "--method", "gradient", "--target", "id:70", "--quantizer", "rtn", "--bits", 2).document
    assert quantized["value"] != command(*asked, "--method", "gradient", "--target", "id:70").document["value"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "/nowhere/at/all"],
        ["inspect", "some-org/some-model"],
        ["salience", "MODEL", "--metric", "hessain"],
        ["salience", "MODEL", "--metric", "magnitude", "--out", "scores.xlsx"],
        ["salience", "MODEL", "--metric", "wanda"],
        ["evaluate", "MODEL"],
        ["evaluate", "MODEL", "--bits", "99", "--text", "TEXT"],
        ["evaluate", "MODEL", "--bits", "x"],
        ["evaluate", "MODEL", "--plan", "/nowhere.json"],
        ["evaluate", "MODEL", "--text", "/nowhere.txt"],
        ["evaluate", "MODEL", "--text", "TEXT", "--tokens", "5"],
        ["sensitivity", "MODEL", "--bits", "2,zwei"],
        ["attribute", "MODEL", "--prompt", "", "--method", "gradient"],
        ["attribute", "MODEL", "--prompt", "cat", "--method", "gradient", "--option", "norm=l9"],
        ["attribute", "MODEL", "--prompt", "cat", "--method", "gradient", "--option", "norm"],
        ["jobs", "dance"],
        ["jobs", "show"],
        ["jobs", "show", "nope"],
        ["app", "--models", "/nowhere/at/all"],
        ["nope"],
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_sentence(arguments: list[str], command, tiny_llama_folder, little_texts) -> None:
    stands_for = {"MODEL": str(tiny_llama_folder), "TEXT": str(little_texts[1])}
    answer = command(*[stands_for.get(argument, argument) for argument in arguments])
    assert answer.code == 2
    assert answer.out == ""
    assert_one_sentence(answer)


def assert_one_sentence(answer) -> None:
    lines = [line for line in answer.err.replace("\r", "\n").splitlines() if line.startswith("workbench: ")]
    assert len(lines) == 1
    assert "Traceback" not in answer.err
    assert 20 < len(lines[0]) < 500


def test_doctor(command) -> None:
    document = command("doctor", "--json").document
    assert document["backend"]["lowbit"] in ("torch", "triton")
    assert document["backend"]["reason"]
    assert document["cache"]["writable"] is True


def test_jobs_of_an_empty_store(command, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    assert command("jobs", "list", "--json").document == {"jobs": []}


def test_help_imports_no_torch() -> None:
    code = "import sys, workbench.cli as c; c.run(['--help']); assert not {'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_the_installed_script_prints_one_document_and_nothing_else(tiny_llama_folder, tmp_path) -> None:
    done = subprocess.run(
        [WORKBENCH, "inspect", tiny_llama_folder, "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["model"]["architecture"] == "LlamaForCausalLM"
