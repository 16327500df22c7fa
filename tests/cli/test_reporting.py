"""`workbench report`: the file, what is refused before anything is computed, and a disk that is full."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def asked(tiny_llama_folder: Path, tmp_path: Path) -> list[object]:
    (tmp_path / "calibration.txt").write_text("The fox jumps over the lazy dog. " * 20)
    (tmp_path / "evaluation.txt").write_text("A small cat sat by the window. " * 20)
    texts = ["--calibration", tmp_path / "calibration.txt", "--text", tmp_path / "evaluation.txt"]
    small = ["--tokens", 128, "--window", 64, "--new-tokens", 3, "--prompt", "a <b> cat", "--quiet"]
    return ["report", tiny_llama_folder, *texts, *small]


def test_it_writes_one_page_and_replaces_it_only_when_told(
    command: Callable[..., Any], asked: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    answer = command(*asked, "--bits", 2, "--out", out)
    assert (answer.code, answer.out, answer.err) == (0, "", f"written to {out}\n")
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "rtn 2 bit g64" in text
    assert "a &lt;b&gt; cat" in text
    assert str(tmp_path) not in text
    again = command(*asked, "--out", out)
    assert again.code == 2
    assert "which is there already; choose another name or add --overwrite" in again.err

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    failed = command(*asked, "--bits", 2, "--out", out, "--overwrite")
    assert failed.code == 2
    assert "the report could not be written" in failed.err
    assert out.read_text(encoding="utf-8") == text
    assert [one.name for one in tmp_path.iterdir() if "partial" in one.name] == []


@pytest.mark.parametrize(("name", "sentence"), [("a.pdf", "must be .html"), ("no/a.html", "its folder is not there")])
def test_a_file_that_cannot_be_is_refused_at_once(
    command: Callable[..., Any], asked: list[object], tmp_path: Path, name: str, sentence: str
) -> None:
    answer = command(*asked, "--out", tmp_path / name)
    assert answer.code == 2
    assert sentence in answer.err
