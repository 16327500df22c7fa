"""A finished study of a small model on one machine, and a second machine to carry it to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from forged import Forgery, Machine
from safetensors.torch import save

from workbench.jobs.adopted import Finished, record
from workbench.jobs.keys import study_key
from workbench.results import Result

CELLS = {f"{number:064x}": {"loss": [0.25, number / 3], "stored_bits": 3.5} for number in range(3)}
DIGEST = "0123456789abcdef"


def make_model(root: Path) -> Path:
    """A folder with the model `one` in it, and a text beside its weights."""
    folder = root / "models" / "one"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "calibration.txt").write_text("The dog sat by the door.")
    return folder


def make_spec(model: Path) -> dict[str, Any]:
    """What was asked about it."""
    grid = {"quantizer": "rtn", "bits": [2, 3, 4], "group_size": 64, "symmetric": False, "options": {}}
    text = {"calibration": str(model / "calibration.txt"), "tokens": 4096, "window": 256}
    return {"model": "one", "allow_download": False, **text, **grid}


def make_result() -> Result:
    """What came of it."""
    table = pd.DataFrame(
        {"matrix": ["a", "b", "ü"], "bits": [2, 3, 4], "value": [0.5, float("nan"), 1 / 3], "symmetric": [True] * 3}
    )
    document = {"model": {"id": "one", "digest": DIGEST}, "reference_loss": 3.25, "nothing": None, "text": "für"}
    return Result(document, {"cells": table}, {"scores.safetensors": save({"a": torch.arange(6.0)})})


def make_machine(cache: Path, spec: dict[str, Any], result: Result) -> Machine:
    """The machine where the study ran."""
    machine = Machine(cache)
    for key, value in CELLS.items():
        machine.store.put_cell(key, value)
    key = study_key("sensitivity", spec)
    machine.shelf.save(key, result, list(CELLS))
    record(machine.store, Finished("sensitivity", spec, key, seconds=2.0, ended=1_700_000_000.0))
    sizes = Result({"matrices": []}, {"matrices": pd.DataFrame({"matrix": ["a"]})})
    machine.shelf.save(study_key("inspect", {"model": "one", "allow_download": False}), sizes)
    return machine


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model, offered on both machines."""
    folder = make_model(tmp_path)
    monkeypatch.setenv("WORKBENCH_MODELS", str(folder.parent))
    return folder


@pytest.fixture
def spec(models: Path) -> dict[str, Any]:
    return make_spec(models)


@pytest.fixture
def result() -> Result:
    return make_result()


@pytest.fixture
def far(tmp_path: Path, spec: dict[str, Any], result: Result) -> Machine:
    return make_machine(tmp_path / "far", spec, result)


@pytest.fixture
def near(tmp_path: Path) -> Machine:
    """The machine that it is carried to."""
    return Machine(tmp_path / "near")


@pytest.fixture
def packed(far: Machine, tmp_path: Path) -> Path:
    return far.pack(tmp_path / "study.zip")


@pytest.fixture(scope="session")
def good_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle made once, for those who only read it; its model is on no machine of theirs."""
    root = tmp_path_factory.mktemp("good-bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_MODELS", str(make_model(root).parent))
        spec = make_spec(root / "models" / "one")
        return make_machine(root / "far", spec, make_result()).pack(root / "study.zip")


@pytest.fixture
def forgery(good_bundle: Path, tmp_path: Path) -> Forgery:
    return Forgery(good_bundle, tmp_path)
