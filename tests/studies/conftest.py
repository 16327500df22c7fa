"""Two little texts in files, and a way to run a study to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workbench
from workbench.progress import Progress, Steps
from workbench.results import Result

CALIBRATION = "The quick brown fox jumps over the lazy dog; then it sleeps in the sun for an hour. " * 12
EVALUATION = "A small cat sat by the window and looked at the birds in the garden all day long. " * 12


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`calibration` and `text`, as a study takes them, with windows that fit the tiny models."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "calibration.txt").write_text(CALIBRATION)
    (folder / "evaluation.txt").write_text(EVALUATION)
    return {"calibration": str(folder / "calibration.txt"), "text": str(folder / "evaluation.txt")}


@pytest.fixture
def finish() -> Callable[..., Result]:
    """Run a study and look at its progress on the way: never backwards, never beyond the end."""

    def run(steps: Steps[Any]) -> Result:
        seen: list[float] = []

        def watch(progress: Progress) -> None:
            share = progress.done / progress.total
            assert 0 <= share <= 1
            assert not seen or share >= seen[-1] - 1e-9
            seen.append(share)

        result = workbench.run(steps, watch)
        assert seen, "a study must report progress"
        return result

    return run


@pytest.fixture(scope="session")
def real(request: pytest.FixtureRequest) -> Path:
    """The long-trained little story model."""
    return request.getfixturevalue("shared_models") / "stories260K"
