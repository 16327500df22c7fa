"""What studies of prompts need, from the cost formulas that attribution methods register (`workbench.costs`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workbench import costs
from workbench.costs import Passes
from workbench.estimates.bench import Bench, Spec
from workbench.estimates.measuring import tradeoff
from workbench.estimates.need import Need, in_turn, only
from workbench.estimates.parts import dense, maps
from workbench.estimates.scores import quantize_choice, reads
from workbench.estimates.table import costs_of
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.registry import attribution
from workbench.studies.drift import another_draw
from workbench.studies.reliability import SHUFFLES

READING = 0.02
"""Seconds that go into a prompt around its map: reading it, the target, tables."""

TIMED = 3
"""Times that a model of `generate` writes its text for its speed, after once to be read."""

PACKED = 4.0
"""A token from packed codes, in tokens of the full model; measured on one core."""


def tokens_of(bench: Bench, prompt: str) -> int:
    """Tokens of a prompt, as many as the model reads."""
    read: Any = bench.loaded.tokenizer(prompt, verbose=False)
    return max(1, min(bench.loaded.context, len(read["input_ids"])))


def passes_of(bench: Bench, method: str, options: Mapping[str, Any] | None, tokens: int) -> Passes:
    """What a map asks of the model.

    Raises:
        WorkbenchError: no such method, or a cost that cannot be read.
    """
    shape = bench.shape
    return costs.passes(
        attribution.get(method).describe(),
        tokens=tokens,
        layers=shape.blocks,
        heads=shape.heads,
        hidden=shape.hidden,
        options=options,
    )


def map_need(bench: Bench, method: str, options: Mapping[str, Any] | None, prompt: str) -> Need:
    """One map of a prompt."""
    tokens = tokens_of(bench, prompt)
    asked = passes_of(bench, method, options, tokens)
    speed = bench.units.speed
    found = costs.seconds(asked, tokens=tokens, per_forward_token=speed.per_forward_token, per_run=speed.per_run)
    rows = math.ceil(max(asked.forwards.high / max(1.0, asked.runs.high), 1))
    seconds = READING + max(found.low, 1e-9) ** 0.75 * found.high**0.25  # most doublings end early
    return maps(bench, seconds, rows, tokens, backward=asked.backwards.high > 0)


def map_seconds(bench: Bench, method: str, options: Mapping[str, Any] | None, prompt: str) -> float:
    """Seconds of one map."""
    return map_need(bench, method, options, prompt).seconds


def quantized(bench: Bench, spec: Spec) -> Need:
    """The weights of a choice of quantization, where there is one; calibration text at its default length."""
    if spec.get("scheme") is None and spec.get("plan") is None:
        return Need()
    seen = bench.calibration({"calibration": spec.get("calibration")}) if reads(bench, spec) else None
    return quantize_choice(bench, spec, seen)


def prompt_run(bench: Bench, tokens: int, count: float = 1.0) -> float:
    """Seconds of forwards of a prompt."""
    return count * (bench.units.run + tokens * bench.units.forward)


@costs_of("attribute")
def attribute(bench: Bench, spec: Spec) -> Need:
    """One map; of several explained tokens, one each at most."""
    count = len(spec["explain"] or (0,)) if spec.get("aggregation") is None else 1
    return quantized(bench, spec).then(map_need(bench, spec["method"], spec["options"], spec["prompt"]).times(count))


@costs_of("token_weights", "token_flow", "attention_maps")
def reading(bench: Bench, spec: Spec) -> Need:
    """A few passes of a prompt, and one more a token where hidden states are kept one at a time."""
    tokens = tokens_of(bench, spec["prompt"])
    kept = (tokens if spec.get("scheme") or spec.get("plan") else 0) if "limit" in spec else 0
    seconds = prompt_run(bench, tokens, 3) + prompt_run(bench, tokens, kept) + READING
    attention = 4 * bench.shape.blocks * bench.shape.heads * tokens**2 * 4
    return quantized(bench, spec).then(Need(seconds, attention + 8 * tokens * bench.shape.activations))


@costs_of("compare_attribution")
def compare_attribution(bench: Bench, spec: Spec) -> Need:
    """Maps, removals in random orders, and maps again on shuffled weights."""
    tokens = tokens_of(bench, spec["prompt"])
    options = spec["options"] or {}
    rounds = 3 if spec["checks"] else 1
    each = [map_need(bench, name, options.get(name), spec["prompt"]) for name in spec["methods"]]
    orders = 2 * (spec["orders"] + len(each)) + 4
    removals = orders * tokens * (tokens * bench.units.forward) + orders * tokens / 12 * bench.units.run
    most = max(each, key=lambda one: one.peak)
    shuffles = rounds * len(each) * 20 * bench.shape.weights * bench.units.touch
    maps_of_all = Need(rounds * sum(one.seconds for one in each) + removals + shuffles, most.peak + dense(bench))
    return quantized(bench, spec).then(maps_of_all)


@costs_of("drift")
def drift(bench: Bench, spec: Spec) -> Need:
    """Every prompt twice, in the full and the quantized model, and another draw where the method knows chance."""
    method = attribution.get(spec["method"])
    draws = 2 + (another_draw(method, method.parse_options(spec["options"])) is not None)
    each = [map_need(bench, spec["method"], spec["options"], prompt) for prompt in spec["prompts"]]
    return quantized(bench, spec).then(in_turn(one.times(draws) for one in each))


@costs_of("drift_curve")
def drift_curve(bench: Bench, spec: Spec) -> Need:
    """Drift of several methods under several schemes."""
    options, parts = spec["options"] or {}, []
    for name in spec["methods"]:
        method = attribution.get(name)
        draws = 1 + (another_draw(method, method.parse_options(options.get(name))) is not None) + len(spec["schemes"])
        parts += [map_need(bench, name, options.get(name), prompt).times(draws) for prompt in spec["prompts"]]
    for scheme in map(complete_scheme, spec["schemes"]):
        parts.append(quantized(bench, {**spec, "scheme": scheme.to_json()}).let_go())
    return in_turn(parts)


@costs_of("damage_map")
def damage_map(bench: Bench, spec: Spec) -> Need:
    """A pass forward and back a node with other weights; nodes are doubled once or twice."""
    tokens, nodes = tokens_of(bench, spec["prompt"]), 2.5 * spec["nodes"]
    one = bench.units.gradient_run + tokens * bench.units.gradient + 6 * bench.shape.weights * bench.units.touch
    held = 4 * tokens * 2 * bench.shape.activations + 3 * dense(bench)
    return quantized(bench, spec).then(Need(nodes * one + prompt_run(bench, tokens, 4), held))


@costs_of("blame")
def blame(bench: Bench, spec: Spec) -> Need:
    """Every token replaced, in two models."""
    tokens = tokens_of(bench, spec["prompt"])
    runs = math.ceil((tokens + 1) * tokens / costs.TOKENS_AT_ONCE)
    seconds = 2 * ((tokens + 1) * tokens * bench.units.forward + runs * bench.units.run)
    return quantized(bench, spec).then(maps(bench, seconds, tokens + 1, tokens, backward=False))


@costs_of("reliability")
def reliability(bench: Bench, spec: Spec) -> Need:
    """Maps of the model, of its draws, and of shuffled weights."""
    options = spec["options"] or {}
    each = [map_need(bench, name, options.get(name), spec["prompt"]) for name in spec["methods"]]
    rounds = 1 + spec["draws"] + SHUFFLES
    noise = (spec["draws"] * 40 + SHUFFLES * len(each) * 20) * bench.shape.weights * bench.units.touch
    most = max(each, key=lambda one: one.peak)
    return Need(rounds * sum(one.seconds for one in each) + noise, most.peak + 2 * dense(bench))


@costs_of("generate")
def generate(bench: Bench, spec: Spec) -> Need:
    """Texts of all models, token by token, their quality and their reasons."""
    tokens, choices = tokens_of(bench, spec["prompt"]), spec["choices"]
    a_text = spec["new_tokens"] * (bench.units.run + bench.units.forward) + tokens * bench.units.forward
    reasons = map_need(bench, spec["method"], None, spec["prompt"])
    quality = tradeoff(bench, {**spec, "points": choices})
    again = [quantized(bench, {**spec, **{k: one.get(k) for k in ("scheme", "plan")}}).let_go() for one in choices]
    writing = only((1 + TIMED + len(choices) * (1 + TIMED * PACKED)) * a_text)
    return in_turn([quality.let_go(), *again, writing, reasons.times(1 + len(choices))])
