"""Texts for tiny models, a store that counts, and studies run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from by_workers import Alone, Counted
from fake_ray import FakeRay

from workbench import studies
from workbench.cluster import run as cluster_run
from workbench.cluster.connection import Connection
from workbench.cluster.wish import Wish
from workbench.progress import run
from workbench.results import Result
from workbench.studies.context import Context


@pytest.fixture(autouse=True)
def _no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study's estimate probes the machine for seconds; it is tested where it is made."""
    monkeypatch.setattr("workbench.estimates.opening.try_to_estimate", lambda bench, kind, spec: None)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Ray inside of this process, which runs are connected to."""
    fake = FakeRay()

    def connect(wish: Wish, cores: int) -> Any:
        return Connection(fake, ours=False)
        yield

    monkeypatch.setattr(cluster_run, "connect", connect)
    return fake


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture(scope="session")
def passages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two texts as files: what calibrates and what measures."""
    folder = tmp_path_factory.mktemp("passages")
    found = {}
    for name, words in (("calibration", "The cat sat on the mat and slept. "), ("text", "A dog ran over the hill. ")):
        path = folder / f"{name}.txt"
        path.write_text("".join(f"{words}Number {one}. " for one in range(40)), encoding="utf-8")
        found[name] = str(path)
    return found


@pytest.fixture(scope="session")
def questions(tiny_llama_folder: Path, passages: dict[str, str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """A question a study, small: name -> kind and spec."""
    scheme = {"quantizer": "rtn", "bits": 3}
    model = {"model": str(tiny_llama_folder)}
    read = {"tokens": 256, "window": 32}
    seen, both = {"calibration": passages["calibration"]}, passages
    sweep = {**model, **seen, **read, "bits": [3, 4]}
    prompts = ["The cat sat", "A dog ran over", "One two three"]
    return {
        "isolated": ("sensitivity", sweep),
        "spared": ("sensitivity", {**sweep, "by": "spared", "measure": "kl", "precision": 0.4, "budgets": [3.6]}),
        "joint path": ("sensitivity", {**sweep, "by": "joint-path"}),
        "court": ("court", {**model, **both, **read, "bits": [3, 4]}),
        "front": ("front", {**model, **both, **read, "budgets": [3.6, 4.0], "bits": [3, 4], "rules": ["magnitude"]}),
        "evaluate": ("evaluate", {**model, **both, "tokens": 640, "window": 32, "scheme": scheme}),
        "evaluate alone": ("evaluate", {**model, "text": passages["text"], "tokens": 640, "window": 32}),
        "drift": ("drift", {**model, "prompts": prompts, "method": "integrated_gradients", "scheme": scheme}),
    }


@pytest.fixture(scope="session")
def alone() -> Alone:
    """Runs a study in this process, with nothing kept from before, in one thread as workers do."""

    def start(kind: str, spec: dict[str, Any]) -> Result:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return run(studies.start(kind, spec, Context()))
        finally:
            torch.set_num_threads(threads)

    return start
