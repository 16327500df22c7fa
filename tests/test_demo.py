"""The embedded model: complete, small, sensitive to lost bits, and its shipped results are what the studies compute."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import workbench
from workbench import results, studies
from workbench.jobs.keys import study_key
from workbench.jobs.shelf import METHODS
from workbench.model.texts import make_windows, read_text
from workbench.registry import describe_all
from workbench.settings import PROJECT, demo_folder
from workbench.studies.context import Context
from workbench.ui.defaults import every_opening

RISE = {8: (-0.005, 0.005), 4: (0.015, math.inf), 3: (0.1, math.inf), 2: (0.6, math.inf)}
OF_THIS_COMPUTER = {
    "created",
    "reused",
    "computed",
    "seconds",
    "tokens_per_second",
    "runs",
    "device",
    "memory_bytes",
    "threads",
}
SHARED_PHRASE = 12
TAKE_LONG = {"court", "detach", "front", "drift_curve", "sensitivity", "signal", "tradeoff", "layer_error"}


@pytest.fixture(scope="module")
def context() -> Context:
    return Context()


def test_everything_is_there_and_small() -> None:
    names = {path.name for path in demo_folder().iterdir()}
    needed = {"model.safetensors", "config.json", "tokenizer.json", "calibration.txt", "evaluation.txt", "loss.csv"}
    assert needed | {"README.md", "prompts.json", "results"} <= names
    assert sum(path.stat().st_size for path in demo_folder().rglob("*") if path.is_file()) < 8 * 2**20


def test_training_came_to_its_end() -> None:
    rows = (demo_folder() / "loss.csv").read_text().split()[1:]
    last = rows[-1].split(",")
    parameters = workbench.load("demo").identity.parameters
    assert int(last[1]) >= 100 * parameters
    assert float(last[3]) < float(rows[0].split(",")[3]) - 0.2
    assert float(last[4]) < 0.05 * max(float(row.split(",")[4]) for row in rows)


def test_widths_suit_the_group_sizes(context: Context) -> None:
    config = context.model("demo").model.config
    assert config.hidden_size % 64 == 0
    assert config.intermediate_size % 64 == 0
    assert config.num_key_value_heads < config.num_attention_heads
    assert config.tie_word_embeddings


@pytest.mark.parametrize("bits", sorted(RISE))
def test_lost_bits_cost_what_a_trained_model_pays(bits: int, context: Context) -> None:
    scheme = {"quantizer": "rtn", "bits": bits, "group_size": 64, "symmetric": False, "options": {}}
    steps = studies.evaluate(context.model("demo"), scheme=scheme, tokens=16384, context=context)
    low, high = RISE[bits]
    assert low <= workbench.run(steps).document["delta_loss"] <= high


def test_the_texts_are_apart_and_long_enough(context: Context) -> None:
    model = context.model("demo")
    calibration, evaluation = read_text("demo:calibration"), read_text("demo:evaluation")
    for text in (calibration, evaluation):
        windows = make_windows(text, model.tokenizer, window=256, tokens=16384, context=model.context)
        assert windows.tokens >= 8192
    said = set(zip(*(calibration.whole.split()[start:] for start in range(SHARED_PHRASE)), strict=False))
    told = set(zip(*(evaluation.whole.split()[start:] for start in range(SHARED_PHRASE)), strict=False))
    assert len(said & told) <= 0.002 * len(told)


def test_prompts_are_of_its_domain(context: Context) -> None:
    prompts = json.loads((demo_folder() / "prompts.json").read_text())["prompts"]
    assert len(prompts) >= 6
    tokenizer = context.model("demo").tokenizer
    assert all(4 < len(tokenizer(prompt["text"]).input_ids) < 200 for prompt in prompts)


def test_shipped_descriptions_are_those_of_the_registry() -> None:
    held = json.loads((demo_folder() / "results" / METHODS).read_text())
    assert held == json.loads(results.dumps(describe_all())), "run tools/make_results.py"


def openings() -> list[Any]:
    """What pages open with; most take a second or two, so that a change of what a study says is seen at once."""
    return [
        pytest.param((kind, spec), id=kind, marks=[pytest.mark.slow] if kind in TAKE_LONG else [])
        for kind, spec in every_opening()
    ]


@pytest.mark.parametrize("question", openings())
def test_shipped_results_are_what_the_studies_compute(question, context: Context) -> None:
    kind, spec = question
    held = results.load(PROJECT / "data" / "demo" / "results" / study_key(kind, spec))
    assert held is not None, "run tools/make_results.py"
    fresh = workbench.run(studies.start(kind, spec, context))
    close = 1e-2 if kind == "detach" else 2e-3  # the last digits decide which weights are the last ones kept
    compare(json.loads(results.dumps(fresh.document)), held.document, kind, close)
    assert set(fresh.tables) == set(held.tables)
    assert all(len(fresh.tables[name]) == len(held.tables[name]) for name in fresh.tables)


def compare(fresh: object, held: object, where: str, close: float) -> None:
    """Equal but for the last digits, which depend on the number of threads."""
    if isinstance(fresh, dict):
        assert isinstance(held, dict), where
        assert set(fresh) == set(held), where
        for key in fresh.keys() - OF_THIS_COMPUTER:
            compare(fresh[key], held[key], f"{where}.{key}", close)
    elif isinstance(fresh, list):
        assert isinstance(held, list), where
        assert len(fresh) == len(held), where
        for place, (one, other) in enumerate(zip(fresh, held, strict=True)):
            compare(one, other, f"{where}[{place}]", close)
    elif isinstance(fresh, float) and isinstance(held, float):
        assert fresh == pytest.approx(held, rel=close, abs=2e-5), where
    else:
        assert fresh == held, where
