"""What an attribution will take before it is run, in words, and whether it may start by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from workbench import costs
from workbench.cost_formula import Between
from workbench.costs import Passes, Speed
from workbench.errors import WorkbenchError
from workbench.jobs.job import INTERACTIVE
from workbench.ui import choices, session
from workbench.ui.defaults import Spec, inspect
from workbench.ui.memory import limited
from workbench.ui.numbers import duration
from workbench.ui.study import Shown

PATIENCE = 10.0
"""Seconds that a study may take without being asked for by a button."""

CHARACTERS = 4
"""Characters of a token, taken until a prompt was read once."""

ORDERS = 22
"""Random orders of a trial, and the sets of tokens beside them that cost about as much as two more."""

LEARNED = "attribution-speed"


@dataclass(frozen=True)
class Cost:
    """What one map is expected to take.

    Attributes:
        passes: through the model.
        seconds: at least and at most.
    """

    passes: Passes
    seconds: Between

    @property
    def starts_by_itself(self) -> bool:
        """Whether nobody would mind the wait."""
        return self.typical <= PATIENCE

    @property
    def typical(self) -> float:
        """Seconds between least and most, nearer to the least."""
        return math.sqrt(self.seconds.low * self.seconds.high)

    @property
    def words(self) -> str:
        """Passes and time, such as `about 34 forward and 32 backward passes, about 2 s`."""
        forwards, backwards = _range(self.passes.forwards), _range(self.passes.backwards)
        told = f"{forwards} forward" + (f" and {backwards} backward" if self.passes.backwards.high else "")
        last = backwards if self.passes.backwards.high else forwards
        plural = "" if last == "1" else "es"
        return f"about {told} pass{plural}, {_time(self.seconds)}"


def expected(method: str, options: Spec, prompt: str) -> Cost | None:
    """What a method will cost on the chosen model; None where the model's size is not known yet, or the cost not told.

    The time is scaled by the last map of this model that was really computed.
    """
    return _cost(choices.described("attribution", method), options, prompt)


def _cost(described: Mapping[str, Any], options: Spec, prompt: str) -> Cost | None:
    model, shape = choices.model(), _shape(choices.model())
    if shape is None:
        return None
    learned = session.recall(LEARNED, {}).get(model, {"lengths": {}})
    tokens = learned["lengths"].get(prompt) or max(1, len(prompt) // CHARACTERS)
    try:
        asked = _passes(described, options, tokens, shape)
    except WorkbenchError:  # a method of another package may tell its cost in words
        return None
    speed = Speed(**learned["speed"]) if "speed" in learned else costs.usual_speed(shape["parameters"], shape["layers"])
    return Cost(asked, _seconds(asked, tokens, speed))


def trial_words(methods: Mapping[str, Spec], prompt: str, checks: bool) -> str | None:
    """How long the trial of these methods takes, in words: their maps, removals in every order, and the checks."""
    maps = [expected(name, options, prompt) for name, options in methods.items()]
    orders = ORDERS + 2 * len(methods)
    removal = _cost({"name": "removal", "cost": f"{orders} tok f", "options": []}, {}, prompt)
    if removal is None or None in maps:
        return None
    rounds = 3 if checks else 1
    return f"about {duration(removal.typical + rounds * sum(one.typical for one in maps if one))}"


def learn(maps: Mapping[str, Shown]) -> None:
    """Take from maps that were computed how fast the model runs here and how many tokens the prompt has."""
    timed = [one.document for one in maps.values() if one.document.get("seconds")]
    model, shape = choices.model(), _shape(choices.model())
    if shape is None or not timed:
        return
    document = max(timed, key=lambda one: one["seconds"])
    tokens, held = len(document["tokens"]), session.recall(LEARNED, {})
    described = choices.described("attribution", document["method"])
    usual = costs.usual_speed(shape["parameters"], shape["layers"])
    asked = _passes(described, document["options"], tokens, shape)
    speed = costs.measured_speed(usual, asked, tokens=tokens, measured=document["seconds"])
    session.remember(LEARNED, {**held, model: {"speed": asdict(speed), "lengths": {document["prompt"]: tokens}}})


def _passes(described: Mapping[str, Any], options: Mapping[str, Any], tokens: int, shape: Mapping[str, int]) -> Passes:
    return costs.passes(described, tokens=tokens, layers=shape["layers"], options=options)


def _seconds(asked: Passes, tokens: int, speed: Speed) -> Between:
    return costs.seconds(asked, tokens=tokens, per_forward_token=speed.per_forward_token, per_run=speed.per_run)


def _shape(model: str) -> dict[str, int] | None:
    """Size of the model; asked for in passing where nobody has looked at it yet."""
    client, question = session.client(), inspect(model)
    found = client.result(*question)
    if found is None:
        if client.latest(*question) is None:
            client.submit(question[0], limited(question[1]), INTERACTIVE)
        return None
    blocks = {one["block"] for one in found.document["matrices"] if one["block"] is not None}
    return {"parameters": found.document["model"]["parameters"], "layers": max(1, len(blocks))}


def _range(value: Between) -> str:
    low, high = round(value.low), round(value.high)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _time(seconds: Between) -> str:
    low, high = (duration(one) for one in seconds)
    if seconds.high < 1:
        return "under 1 s"
    return f"about {high}" if low == high else f"{low} to {high}"
