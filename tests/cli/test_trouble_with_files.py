"""Output files that cannot be written: one sentence, no remains, and the former file stays."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from workbench.cli import output
from workbench.errors import WorkbenchError
from workbench.studies import salience_masks


def test_a_disk_that_is_full_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("former")

    def fill_up(to: Path) -> None:
        to.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WorkbenchError, match=r"the plan could not be written to .*plan.json': No space left on device"):
        output.put_file("the plan", path, fill_up)
    assert [one.name for one in tmp_path.iterdir()] == ["plan.json"]
    assert path.read_text() == "former"


def test_a_folder_that_refuses_removal_too_ends_in_the_same_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only file system removing a file that is not there is refused as well, not only writing it."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(WorkbenchError, match="Read-only file system"):
        output.put_file("the plan", tmp_path / "plan.json", refuse)


def test_tensors_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What safetensors raises then is no OSError."""

    def fill_up(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(salience_masks, "save_file", fill_up)
    with pytest.raises(WorkbenchError, match=r"tensors could not be written to .*: .*No space left on device"):
        salience_masks.write_tensors({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {})


@pytest.mark.parametrize("name", ["nowhere/plan.json", "plan.yaml"])
def test_a_plan_is_not_computed_for_a_file_that_cannot_be(name: str, command: Any, tmp_path: Path) -> None:
    answer = command("allocate", "/nowhere/model", "--budget", 3, "--out", tmp_path / name)
    assert answer.code == 2
    assert answer.err.startswith("workbench: --out has value ")
    assert answer.err.count("\n") == 1
