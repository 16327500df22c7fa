"""What an attribution will cost before it is run, read from the `cost` that each method registers.

A cost is a formula (`cost_formula`) such as `2 f + samples (units + 2) f`: f is the forward pass of one prompt, b its
backward pass, run what a run of the model takes whatever is in it (given beside f and b for work of that size around
the model, such as hooks); the rest is multiply-adds. The names are `NAMES` and the method's own options. Behind a
comma, `N at a time` says how many prompts share a run of the model at most (as many as the option `batch` otherwise);
other words there are for people. Pages show costs, so there is no torch here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from workbench.cost_formula import Between, evaluate
from workbench.errors import WorkbenchError

UNITS = ("f", "b", "run")
NAMES = (*UNITS, "tok", "units", "spans", "sentences", "layers", "heads", "hidden")
TOKENS_AT_ONCE = 8192
"""Tokens in one run of the model, as `attribution.sampling` bounds them."""
FORWARD = 4.5e-11
"""Seconds per parameter and token of a forward pass: one core of the machine that the project was measured on."""
RUN = 4.5e-4
"""Seconds per layer that a run of the model takes whatever is in it."""
BACKWARD = 1.5
"""A backward pass in forward passes."""
OPERATION = 1e-9
"""Seconds per multiply-add beside the model."""


class Passes(NamedTuple):
    """What a run of a method asks of the model.

    Attributes:
        forwards: prompts that go through the model.
        backwards: prompts whose gradient is taken.
        runs: forward runs of the model, with several prompts in each.
        backward_runs: backward runs.
        around: what is done around them, in runs of nothing.
        operations: multiply-adds beside the model.
    """

    forwards: Between
    backwards: Between
    runs: Between
    backward_runs: Between
    around: Between
    operations: Between


@dataclass(frozen=True)
class Speed:
    """How fast a model runs, in the words of `seconds`.

    Attributes:
        per_forward_token: seconds.
        per_run: seconds that a run takes whatever is in it.
    """

    per_forward_token: float
    per_run: float


def passes(
    method_description: Mapping[str, Any],
    *,
    tokens: int,
    layers: int = 1,
    heads: int = 1,
    hidden: int = 1,
    options: Mapping[str, Any] | None = None,
) -> Passes:
    """What a method costs on a prompt.

    Args:
        method_description: as `Method.describe()` gives it.
        tokens: of content; control tokens are held fixed and cost nothing.
        layers: of the model.
        heads: query heads a layer.
        hidden: size of the hidden states.
        options: those that are set; the others have their defaults.

    Raises:
        WorkbenchError: the cost that the method registered cannot be read.
    """
    settings = {one["name"]: one["default"] for one in method_description["options"]} | dict(options or {})
    shape = {"tok": tokens, "layers": layers, "heads": heads, "hidden": hidden}
    names = {name: Between(value, value) for name, value in shape.items()} | _unknown(tokens, settings) | settings
    formula, *clauses = _split(method_description["cost"])
    try:
        beside, *counted = (
            evaluate(formula, names | {name: float(name == unit) for name in UNITS}) for unit in ("", *UNITS)
        )
        together = _together(clauses, names, tokens)
    except ValueError:
        name, cost = method_description["name"], method_description["cost"]
        raise WorkbenchError(
            f"the cost {cost!r} of {name!r} cannot be read; write a sum over the names {', '.join(NAMES)} and options"
        ) from None
    forwards, backwards, around = (Between(one.low - beside.low, one.high - beside.high) for one in counted)
    return Passes(forwards, backwards, _runs(forwards, together), _runs(backwards, together), around, beside)


def seconds(passes: Passes, *, tokens: int, per_forward_token: float, per_run: float = 0.0) -> Between:
    """The time that takes, at least and at most.

    Args:
        passes: what is asked of the model.
        tokens: of the whole prompt.
        per_forward_token: seconds, see `Speed`.
        per_run: seconds.
    """
    low, high = (
        (forwards + BACKWARD * backwards) * tokens * per_forward_token
        + (runs + BACKWARD * backward_runs + around) * per_run
        + operations * OPERATION
        for forwards, backwards, runs, backward_runs, around, operations in zip(*passes, strict=True)
    )
    return Between(low, high)


def usual_speed(parameters: int, layers: int) -> Speed:
    """The speed to expect of a model before anything was measured on it, on one core."""
    return Speed(FORWARD * parameters, RUN * layers)


def measured_speed(usual: Speed, passes: Passes, *, tokens: int, measured: float) -> Speed:
    """The usual speed, made faster or slower so that it gives the time that a run really took.

    Args:
        usual: of the model.
        passes: of that run.
        tokens: of its prompt.
        measured: its seconds.
    """
    expected = seconds(passes, tokens=tokens, per_forward_token=usual.per_forward_token, per_run=usual.per_run)
    if measured <= 0 or expected.low <= 0:
        return usual
    factor = measured / math.sqrt(expected.low * expected.high)
    return Speed(usual.per_forward_token * factor, usual.per_run * factor)


def _unknown(tokens: int, settings: Mapping[str, Any]) -> dict[str, Between]:
    """What is only known once the prompt is cut: spans of all scales are nested, so fewer than 2 a token."""
    whole = settings.get("unit", "token") == "token"
    return {
        "units": Between(tokens if whole else min(tokens, 1), tokens),
        "sentences": Between(min(tokens, 1), tokens),
        "spans": Between(tokens if settings.get("token", True) else min(tokens, 1), max(2 * tokens - 1, 0)),
    }


def _split(cost: str) -> list[str]:
    """The formula and the clauses behind it: at commas that stand in no brackets."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", cost)]


def _together(clauses: list[str], names: Mapping[str, Any], tokens: int) -> float:
    """Prompts in one run of the model."""
    most = [max(1, TOKENS_AT_ONCE // max(tokens, 1)), names.get("batch", 1 << 30)]
    for clause in clauses:
        if clause.endswith(" at a time"):
            most.append(evaluate(clause.removesuffix(" at a time"), names).high)
    return max(1, min(most))


def _runs(rows: Between, together: float) -> Between:
    return Between(math.ceil(rows.low / together), math.ceil(rows.high / together))
