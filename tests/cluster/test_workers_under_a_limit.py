"""A memory limit together with workers: each of them reads the model block by block, and says what one process says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from by_workers import Alone, Counted, close
from fake_ray import FakeRay

from workbench.cluster import run as cluster_run
from workbench.cluster.wish import Wish
from workbench.errors import WorkbenchError
from workbench.model.fit import Fit, fit_of
from workbench.model.load import load
from workbench.model.streamed_build import layout_of
from workbench.progress import run
from workbench.studies.context import Context

NAMES = (
    "evaluate",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("isolated", "spared", "front", "joint path")),
)
SMALL = {"front": {"ways": ["isolated"]}, "joint path": {"tokens": 64, "window": 8}}
"""What is asked besides: gradients of a block need more than this small model has, unless windows are short."""


@pytest.fixture(scope="module")
def fit(tiny_llama_folder: Path) -> Fit:
    """What the model needs."""
    model = load(str(tiny_llama_folder)).model
    return fit_of(layout_of(model), model.config)


@pytest.mark.parametrize("name", NAMES)
def test_streaming_workers_say_what_one_process_says(
    name: str, ray: FakeRay, fit: Fit, alone: Alone, questions: dict[str, Any], counted: Counted
) -> None:
    kind, spec = questions[name]
    spec, limit = spec | SMALL.get(name, {}), fit.resident - 1 if name == "joint path" else fit.smallest
    found = run(cluster_run.start(kind, {**spec, "memory_limit": limit}, Context(counted), Wish("local", 2)))
    assert close(found.document, alone(kind, spec).document)
    assert ray.made
    assert all(handle.held._loaded.streamed for handle in ray.handles)


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [("evaluate", r"too small for model .* the smallest possible limit"),
     pytest.param("joint path", r"worker 1 .*smallest memory limit that would do is", marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_limit_that_is_too_small_is_said_with_the_smallest_that_would_do(
    name: str, sentence: str, fit: Fit, questions: dict[str, Any], counted: Counted
) -> None:
    kind, spec = questions[name]
    limit = fit.smallest - (name == "evaluate")
    with pytest.raises(WorkbenchError, match=sentence):
        run(cluster_run.start(kind, {**spec, "memory_limit": limit}, Context(counted), Wish("local", 2)))
