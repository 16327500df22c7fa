"""What a method says it costs is what it does: rows that went through the model, counted at the model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pytest
import torch
from attribution_models import IDS, LOGIT, adapted
from torch import nn

import workbench
from tools import train_planted
from workbench import cost_formula, costs
from workbench.attribution import prefix, sampling
from workbench.attribution.adapter import Adapter
from workbench.cost_formula import Between, evaluate
from workbench.errors import WorkbenchError
from workbench.model.load import load
from workbench.registry import Method, attribution
from workbench.studies.attribute import attribute

METHODS = attribution.methods()
CONTENT = 7
SHAPE = {"tokens": CONTENT, "layers": 2, "heads": 4, "hidden": 32}
SHORTER = {
    "expected_gradients": {"baselines": 2},
    "extremal_mask": {"steps": 20},
    "meaningful_perturbation": {"steps": 20},
}
OTHERWISE: list[tuple[str, dict[str, Any]]] = [
    ("occlusion", {"window": 3}),
    ("occlusion", {"window": 64}),
    ("occlusion_spans", {"token": False}),
    ("smoothgrad", {"samples": 5, "batch": 2}),
    ("integrated_gradients", {"nodes": 2, "max_nodes": 3, "tolerance": 0.0}),
    ("expected_gradients", {"baselines": 3, "nodes": 2, "max_nodes": 8, "tolerance": 0.0}),
    ("shapley", {"pairs": 3, "unit": "word"}),
    ("kernel_shap", {"samples": 20}),
    ("kernel_shap", {"samples": 0}),
    ("sobol", {"samples": 5, "mask": "soft"}),
    ("sobol", {"unit": "sentence"}),
    ("extremal_mask", {"areas": "0.1, 0.5, 0.9", "steps": 7}),
    ("meaningful_perturbation", {"steps": 3}),
]
"""Options at which the formula has to hold as well."""


@dataclass
class Count:
    """Rows that went through the model forwards, and backwards."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def counted(adapter: Adapter) -> Iterator[Count]:
    count = Count()

    def look(module: nn.Module, given: Any, output: Any) -> None:
        rows = len(output.logits)
        count.forwards += rows
        if output.logits.requires_grad:
            output.logits.register_hook(lambda slope: setattr(count, "backwards", count.backwards + rows))

    handle = adapter.model.register_forward_hook(look)
    try:
        yield count
    finally:
        handle.remove()


def check(method: Method, adapter: Adapter, options: dict[str, Any]) -> None:
    with counted(adapter) as count:
        method(adapter, IDS, LOGIT, **options)
    expected = costs.passes(method.describe(), **SHAPE, options=options)
    assert expected.forwards.low <= count.forwards <= expected.forwards.high
    assert expected.backwards.low <= count.backwards <= expected.backwards.high
    if not adapts(method, options):
        assert expected.forwards.low == expected.forwards.high
        assert expected.backwards.low == expected.backwards.high


def adapts(method: Method, options: dict[str, Any]) -> bool:
    """Whether the number of rows is only known afterwards: paths that are refined, texts that are cut, draws."""
    cost = method.cost
    cut = "unit" in options and options["unit"] != "token"
    return "doubling" in cost or "spans" in cost or cut or ("distinct" in cost and "samples" in options)


@pytest.mark.parametrize("method", METHODS, ids=[method.name for method in METHODS])
def test_rows_are_those_of_the_formula(method: Method, llama: Adapter) -> None:
    check(method, llama, SHORTER.get(method.name, {}))


@pytest.mark.parametrize(("name", "options"), OTHERWISE)
def test_options_count(name: str, options: dict[str, Any]) -> None:
    check(attribution.get(name), adapted("gpt2"), options)


def test_a_path_that_never_converges_costs_the_most(llama: Adapter) -> None:
    """Nodes 2, 4, 8, 12 are all tried: the upper end is reached, not only not exceeded."""
    options = {"nodes": 2, "max_nodes": 12, "tolerance": 0.0}
    method = attribution.get("integrated_gradients")
    with counted(llama) as count:
        method(llama, IDS, LOGIT, **options)
    assert costs.passes(method.describe(), **SHAPE, options=options).backwards == Between(2, 26)
    assert count.backwards == 26


@pytest.mark.parametrize("players", [16, 40])
def test_drawn_coalitions_are_as_many_as_said(players: int, llama: Adapter) -> None:
    method = attribution.get("kernel_shap")
    ids = torch.arange(4, 4 + players)[None]
    with counted(llama) as count:
        method(llama, ids, LOGIT, samples=300)
    expected = costs.passes(method.describe(), tokens=players, options={"samples": 300}).forwards
    assert expected.low < count.forwards <= expected.high


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("2 f + samples (units + 2) f", Between(2 + 3 * 6, 2 + 3 * 12)),
        ("min(2^4, 3 samples) - 1", Between(8, 8)),
        ("power_of_two(5) + ceil(7 / 2)", Between(12, 12)),
        ("doubling(2, 9)", Between(2, 2 + 4 + 8 + 9)),
        ("doubling(9, 2)", Between(9, 9)),
        ("sizes(areas, 10)", Between(2, 2)),
        ("distinct(10, 20) + distinct(20, 10)", Between(16, 20)),
        ("units - units", Between(0, 6)),
        ("suffixes(samples, 10) + suffixes(100, 10)", Between(3 + 50, 3 + 102)),
    ],
)
def test_a_formula_by_hand(formula: str, value: Between) -> None:
    names = {"f": 1, "samples": 3, "units": Between(4, 10), "areas": "0.1, 0.12, 0.5"}
    assert evaluate(formula, names) == pytest.approx(value)


@pytest.mark.parametrize(
    "formula", ["", "f +", "unheard", "__import__('os')", "f.real", "[f]", "'text'", "f / 0", "f; f"]
)
def test_what_is_no_formula_is_refused(formula: str) -> None:
    described = attribution.get("gradient").describe() | {"cost": formula}
    with pytest.raises(WorkbenchError, match="of 'gradient' cannot be read; write a sum over the names f, b"):
        costs.passes(described, tokens=5)


def test_seconds_are_rows_times_tokens_and_runs() -> None:
    """Occlusion of 10 tokens: 12 prompts in 3 runs of 4; a backward pass is one and a half forward passes."""
    asked = costs.passes(attribution.get("occlusion").describe(), tokens=10, options={"batch": 4})
    assert (asked.forwards, asked.runs) == (Between(12, 12), Between(3, 3))
    took = costs.seconds(asked, tokens=11, per_forward_token=1e-3, per_run=1.0)
    assert took == pytest.approx((3.132, 3.132))
    one = costs.passes(attribution.get("gradient").describe(), tokens=10)
    assert costs.seconds(one, tokens=10, per_forward_token=1e-3) == pytest.approx((0.025, 0.025))


def test_long_prompts_share_fewer_runs() -> None:
    assert (costs.TOKENS_AT_ONCE, cost_formula.WORTH) == (sampling.TOKENS_AT_ONCE, prefix.WORTH)
    asked = costs.passes(attribution.get("sobol").describe(), tokens=2046)
    assert asked.runs == Between((32 * 2048 + 2) / 4 + 0.5, (32 * 2048 + 2) / 4 + 0.5)


def test_a_measured_run_sets_the_speed() -> None:
    usual = costs.usual_speed(1_000_000, 4)
    asked = costs.passes(attribution.get("smoothgrad").describe(), tokens=20)
    speed = costs.measured_speed(usual, asked, tokens=21, measured=3.0)
    assert costs.seconds(asked, tokens=21, **asdict(speed)) == pytest.approx((3.0, 3.0))
    assert costs.measured_speed(usual, asked, tokens=21, measured=0.0) == usual


def test_a_result_says_how_long_it_took() -> None:
    loaded = load(str(train_planted.FOLDER))
    document = workbench.run(attribute(loaded, prompt="filler1 trigger2 filler3", method="gradient")).document
    assert 0 < document["seconds"] < 60


def test_costs_are_read_without_torch() -> None:
    code = "import sys, workbench.costs; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
