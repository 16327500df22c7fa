"""Specs in words: what a study was asked, and how two questions differ."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from workbench.ui.defaults import Spec, scheme_label, short_label
from workbench.ui.escape import markdown

KINDS = {
    "inspect": "sizes",
    "salience": "weight salience",
    "layer_error": "layer error",
    "kernel_speed": "speed of the kernels",
    "court": "metrics against measured loss",
    "detach": "top weights kept",
    "agreement": "agreement of metrics",
    "prompt_coverage": "prompt against calibration text",
    "salience_export": "scores and masks to download",
    "matrix_detail": "one matrix in detail",
    "signal": "hidden states by depth",
    "evaluate": "quality on the evaluation text",
    "sensitivity": "sensitivity of every matrix",
    "tradeoff": "quality against size",
    "allocate": "plan decided by measuring",
    "guarded": "fewest bits that keep the reasons",
    "front": "plans along budgets",
    "attribute": "input attribution",
    "token_weights": "weights behind each token",
    "attention_maps": "attention of every head",
    "compare_attribution": "maps of several methods",
    "drift": "maps of the full and the quantized model",
    "drift_curve": "drift of maps by width",
    "damage_map": "damage by matrix and token",
    "blame": "tokens to blame",
    "reliability": "error bars of maps",
    "token_flow": "weights that carry a token",
    "generate": "texts side by side",
}
"""Kind of a study -> what a person calls it."""


def kind_label(kind: str) -> str:
    """The kind in plain words; kinds that are not listed keep their name."""
    return KINDS.get(kind, kind.replace("_", " "))


def value_words(name: str, value: Any) -> str:
    """One value of a spec, short enough for a sentence; plain text, not escaped."""
    if name == "scheme":
        return scheme_label(value)
    if name == "schemes":
        return _shortened(", ".join(short_label(one) for one in value))
    if name == "points":
        return _shortened(", ".join(str(one["label"]) for one in value))
    if name in ("calibration", "text", "text2") and isinstance(value, str):
        return PurePath(value).name
    if value is None or value == {} or value == []:
        return "none"
    if name == "plan":
        return f"a plan of {value['budget']['requested']:.4g} stored bits"
    if isinstance(value, list) and all(isinstance(one, (int, float, str)) for one in value):
        listed = ", ".join(str(one) for one in value)
        return _shortened(f"{listed} bits" if name == "bits" else listed, 40)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _shortened(text, 40)


def _shortened(text: str, most: int = 120) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def differences(before: Spec, after: Spec) -> str:
    """How the spec of a result that is shown differs from the one that was asked for, for the stale banner."""
    names = [name for name in before if before[name] != after.get(name)]
    parts = [
        f"{markdown(name.replace('_', ' '))} was {markdown(value_words(name, before[name]))}, "
        f"now {markdown(value_words(name, after.get(name)))}"
        for name in names
    ]
    return "; ".join(parts) or "the same ones"


def summary(spec: Spec) -> str:
    """A spec in one line for a table of jobs; plain text, not escaped."""
    wanted = ("model", "metric", "method", "quantizer", "quantizers", "bits", "budget", "scheme", "schemes", "prompt")
    parts = [value_words(name, spec[name]) for name in wanted if spec.get(name) not in (None, "", [], {})]
    return ", ".join(parts)
