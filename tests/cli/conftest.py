"""The command line in this process: exit code, stdout and stderr, on tiny models and little texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workbench import cli

CALIBRATION = "The quick brown fox jumps over the lazy dog; then it sleeps in the sun for an hour. " * 12
EVALUATION = "A small cat sat by the window and looked at the birds in the garden all day long. " * 12


@dataclass
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its one JSON document."""
        return json.loads(self.out)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run `workbench` with arguments."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def little_texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A calibration text and an evaluation text in files."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "calibration.txt").write_text(CALIBRATION)
    (folder / "evaluation.txt").write_text(EVALUATION)
    return folder / "calibration.txt", folder / "evaluation.txt"


@pytest.fixture
def sizes(little_texts: tuple[Path, Path]) -> list[object]:
    """Flags for windows that fit the tiny models."""
    return ["--calibration", little_texts[0], "--tokens", 256, "--window", 32, "--quiet"]
