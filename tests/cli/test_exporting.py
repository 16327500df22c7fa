"""`quantize`, `export` and `import` from the shell."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.cli.exporting import leaving_on_termination


@pytest.fixture
def plan_file(command: Callable, tiny_llama_folder: Path, tmp_path: Path) -> Path:
    hand, out = tmp_path / "hand.json", tmp_path / "plan.json"
    hand.write_text(
        json.dumps({"default": {"bits": 4, "group_size": -1, "symmetric": True}, "model.layers.1.mlp.up_proj": 8})
    )
    answer = command("import", tiny_llama_folder, hand, "--out", out)
    assert (answer.code, answer.out) == (0, "")
    assert "read as a plan by hand" in answer.err
    return out


def test_export_prints_the_text_alone_and_what_is_lost_on_stderr(command: Callable, plan_file: Path) -> None:
    answer = command("export", plan_file, "--to", "auto-round")
    assert answer.code == 0
    assert answer.document["model.layers.1.mlp.up_proj"]["bits"] == 8
    assert all(line.startswith("workbench: ") for line in answer.err.splitlines())
    assert "learns its own rounding" in answer.err
    whole = command("export", plan_file, "--to", "auto-round", "--json").document
    assert whole["text"] == answer.out
    assert [f"workbench: {line}" for line in whole["losses"]] == answer.err.splitlines()


def test_out_and_in_again_from_the_shell(
    command: Callable, plan_file: Path, tiny_llama_folder: Path, tmp_path: Path
) -> None:
    text = tmp_path / "config.json"
    assert command("export", plan_file, "--to", "gptqmodel", "--out", text).out == ""
    back = command("import", tiny_llama_folder, text).document
    planned = json.loads(plan_file.read_text())
    assert {n: t["bits"] for n, t in back["tensors"].items()} == {n: t["bits"] for n, t in planned["tensors"].items()}
    assert back["model"]["weights_sha256"] == planned["model"]["weights_sha256"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("export", "PLAN", "--to", "awq"), "unknown target 'awq'"),
        (("export", "/no/where.json", "--to", "hqq"), "could not be read"),
        (("export", "PLAN", "--to", "llama.cpp", "--from", "/no/cells.csv"), "is not there"),
        (("import", "MODEL", "/no/where.txt"), "could not be read"),
        (("import", "MODEL", "PLAN", "--out", "plan.txt"), "a plan's ending must be .json"),
        (("quantize", "MODEL", "--out", "HERE", "--quiet"), "is there already"),
        (("quantize", "MODEL", "--quiet", "--out", "NEW"), "nothing says how to quantize"),
        (("quantize", "MODEL", "--bits", 4, "--quiet", "--out", "NEW", "--format", "gguf"), "unknown format 'gguf'"),
        (
            ("quantize", "MODEL", "--bits", 4, "--quiet", "--out", "NEW", "--format", "compressed-tensors"),
            "has zero points",
        ),
    ],
)
def test_bad_input_ends_in_one_sentence(
    command: Callable, plan_file: Path, tiny_llama_folder: Path, tmp_path: Path, arguments: tuple, expected: str
) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors (extra [export]) is not installed")
    places = {"PLAN": plan_file, "MODEL": tiny_llama_folder, "HERE": tmp_path, "NEW": tmp_path / "new"}
    answer = command(*(places.get(str(one), one) for one in arguments))
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.err.strip().splitlines()) == 1
    assert expected in answer.err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_quantize_writes_a_checkpoint_and_says_so(
    command: Callable, plan_file: Path, tiny_llama_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors (extra [export]) is not installed")
    out = tmp_path / "out"
    flags = ("--plan", plan_file, "--out", out, "--format", "compressed-tensors", "--quiet")
    document = command("quantize", tiny_llama_folder, *flags, "--json").document
    assert {"out", "format", "bytes", "max_logit_difference", "losses"} <= set(document)
    assert document["max_logit_difference"] <= 1e-5
    assert (out / "tokenizer_config.json").exists()
    again = command("quantize", tiny_llama_folder, *flags)
    assert again.code == 2
    assert "is there already" in again.err


def test_a_request_to_end_is_an_exception_for_as_long_as_something_is_written() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), leaving_on_termination():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
