"""What studies of plans need: tables, candidates that are measured, budgets one after the other."""

from __future__ import annotations

from workbench.estimates.bench import Bench, Spec, schemes_of
from workbench.estimates.measuring import table
from workbench.estimates.need import Need, in_turn, only
from workbench.estimates.parts import compare, reference
from workbench.estimates.prompts import map_seconds
from workbench.estimates.rounding import values
from workbench.estimates.scores import salience
from workbench.estimates.table import costs_of
from workbench.model.texts import Windows
from workbench.studies.allocate import widths_of
from workbench.studies.guarded import STEPS
from workbench.studies.solved import ENDS, PARTS
from workbench.studies.texts import CALIBRATION_TOKENS

SOLVING = 0.05
"""Seconds that a plan is solved and written in, about."""

TRIED = 0.5
"""Part of the row of plans that is tried until one keeps the ceilings, about."""

DISTINCT = 0.8
"""Part of the plans of a row of budgets that no other budget has, about; a plan is measured once."""

REFINED = 0.6
"""Part of the time for swaps that is spent, about: none where sums can be trusted."""


def tables(bench: Bench, spec: Spec, ways: list[str]) -> Need:
    """A sensitivity table a way and quantizer."""
    if spec.get("cells") is not None:
        return Need()
    windows = bench.calibration(spec)
    parts = []
    for name in spec["quantizers"]:
        options = (spec.get("options") or {}).get(name, {})
        chosen = schemes_of(spec, name, widths_of(name, spec["bits"]), options)
        parts += [table(bench, windows, chosen, by=way, measure="loss", spec={}).let_go() for way in ways]
    return in_turn(parts)


def desk(bench: Bench, spec: Spec) -> tuple[Need, list[Windows]]:
    """The full model on the text of the tables and on as much after it."""
    seen = bench.calibration(spec)
    both = [seen] + ([seen] if _has_more(bench, spec, seen) else [])
    return in_turn(reference(bench, one) for one in both), both


def _has_more(bench: Bench, spec: Spec, seen: Windows) -> bool:
    more = bench.calibration({**spec, "tokens": seen.tokens + max(seen.tokens, CALIBRATION_TOKENS)})
    return more.tokens > seen.tokens


def plan(bench: Bench, spec: Spec, texts: list[Windows]) -> Need:
    """One plan that is solved, rounded and measured on these texts."""
    name = spec["quantizers"][0]
    widths = widths_of(name, spec["bits"])
    scheme = schemes_of(spec, name, widths[:1], (spec.get("options") or {}).get(name, {}))[0]
    measured = [values(bench, scheme, texts[0]).then(compare(bench, one)) for one in texts]
    return only(SOLVING).then(in_turn(one.let_go() for one in measured))


def _candidates(spec: Spec) -> int:
    """Plans for one budget: the solved ones, and the uniform ones below it, half of the widths."""
    return _solved(spec) + max(1, len(spec["bits"]) // 2) * len(spec["quantizers"])


def _solved(spec: Spec) -> int:
    """Distinct plans that solvers give, about: one a table and two between, half of them again with fused alike."""
    ways = ["cells"] if spec.get("cells") is not None else spec["ways"]
    return round(1.5 * (len(ways) + (len(PARTS) if set(ENDS) <= set(ways) else 0)))


@costs_of("allocate")
def allocate(bench: Bench, spec: Spec) -> Need:
    """One plan for a budget."""
    opened, texts = desk(bench, spec)
    tried = plan(bench, spec, texts).times(_candidates(spec))
    swaps = only(REFINED * float(spec["refine_seconds"]))
    return in_turn([tables(bench, spec, list(spec["ways"])), opened, tried, swaps])


@costs_of("front")
def front(bench: Bench, spec: Spec) -> Need:
    """A plan a budget, rules of thumb beside them, all measured on the evaluation text."""
    budgets, rules = len(set(spec["budgets"])), list(spec["rules"])
    opened, texts = desk(bench, spec)
    uniform = len(spec["bits"]) * len(spec["quantizers"])
    tried = plan(bench, spec, texts).times(DISTINCT * budgets * _solved(spec) + uniform)
    swaps = only(REFINED * budgets * float(spec["refine_seconds"]))
    scored = [salience(bench, _rule(spec, metric)) for metric in rules]
    unseen = bench.evaluation(spec)
    points = plan(bench, spec, [unseen]).times(budgets * (1 + len(rules)) + uniform)
    tried_on = reference(bench, unseen).then(points)
    return in_turn([tables(bench, spec, list(spec["ways"])), opened, tried, swaps, *scored, tried_on])


def _rule(spec: Spec, metric: str) -> Spec:
    names = ("calibration", "tokens", "window")
    return {"metric": metric, "options": None, **{name: spec.get(name) for name in names}}


@costs_of("guarded")
def guarded(bench: Bench, spec: Spec) -> Need:
    """A row of plans until one keeps the ceilings."""
    opened, texts = desk(bench, spec)
    one = plan(bench, spec, texts[:1])
    if spec["min_agreement"] is not None:
        drifted = sum(3 * map_seconds(bench, spec["method"], None, prompt) for prompt in spec["prompts"])
        one = one.then(quantize_again(bench, spec, texts[0])).then(only(drifted)).let_go()
    return in_turn([tables(bench, spec, [spec["by"]]), opened, one.times(max(1, round(TRIED * STEPS)))])


def quantize_again(bench: Bench, spec: Spec, windows: Windows) -> Need:
    """The plan's weights once more, for the maps."""
    name = spec["quantizers"][0]
    widths = widths_of(name, spec["bits"])
    return values(bench, schemes_of(spec, name, widths[:1], (spec.get("options") or {}).get(name, {}))[0], windows)
