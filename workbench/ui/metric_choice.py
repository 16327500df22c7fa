"""What a salience metric looks at beside the weights and the calibration text: a quantizer, a second text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from workbench.ui import choices, controls, defaults
from workbench.ui.defaults import Spec

NOTHING = "nothing"
PROMPTS, PROMPTS_SHOWN = "demo:prompts", "example prompts"
"""The example prompts of the embedded model as a TEXT name, and as they are shown."""


@dataclass(frozen=True)
class Beside:
    """The choices for metrics that need more than the full weights; None where no chosen metric does."""

    scheme: Spec | None
    text2: str | None

    def of(self, metric: str) -> dict[str, Any]:
        """What a question about this metric names; a choice that it would not look at is left out."""
        traits = choices.described("salience", metric)["traits"]
        return {
            "scheme": self.scheme if traits.get("compares_quantized") else None,
            "text2": self.text2 if traits.get("second_text") else None,
        }


def second_choice(metric: str) -> str:
    """Draw the choice of a metric to compare with; `NOTHING` at first."""
    offered = [name for name in choices.metrics(every=True) if name != metric]
    return controls.select("Compare with", [NOTHING, *offered], key="second", help="A second metric on the same text.")


def beside(*metrics: str) -> Beside:
    """Draw the controls that these metrics need; `NOTHING` needs none."""
    known = {name: choices.described("salience", name)["traits"] for name in metrics if name != NOTHING}
    comparing = [name for name, traits in known.items() if traits.get("compares_quantized")]
    reading = [name for name, traits in known.items() if traits.get("second_text")]
    scheme, text2 = None, None
    if comparing:
        st.caption(f"{_listed(comparing)} the full weights with quantized ones, made by:")
        scheme = choices.scheme(bits=3)
    if reading:
        text2 = second_text(_takes(reading))
    return Beside(scheme, text2)


def second_text(about: str) -> str:
    """Draw the choice of the second text; returns a TEXT name."""
    offered = choices.text_choices(choices.model())
    if defaults.example_prompts():
        offered = {PROMPTS_SHOWN: PROMPTS} | offered
    first = default_second(choices.model(), offered)
    chosen = controls.select("Second text", list(offered), first, key="text2", width=320, help=about)
    return offered[chosen]


def default_second(model: str, offered: Mapping[str, str]) -> str:
    """The example prompts for the embedded model; else a file of its own that neither feeds nor measures, if any."""
    if model == defaults.DEMO and PROMPTS_SHOWN in offered:
        return PROMPTS_SHOWN
    calibration, evaluation = choices.default_texts(model)
    own = [name for name in offered if name != PROMPTS_SHOWN and not name.startswith("demo:")]
    return next((name for name in own if name not in (calibration, evaluation)), evaluation)


def _listed(names: list[str]) -> str:
    words = " and ".join(name.replace("_", " ") for name in names)
    return f"{words} compare{'s' if len(names) == 1 else ''}"


def _takes(names: list[str]) -> str:
    return f"The passage whose gradients {' and '.join(name.replace('_', ' ') for name in names)} takes."
