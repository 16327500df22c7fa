"""From a job back to the page that shows it: which page, and which choices that page needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from workbench.ui import address, choices, demo, metric_choice, plan_links, session, target, traits
from workbench.ui.defaults import Spec, short_label
from workbench.ui.desk import Desk

PAGES = {
    "inspect": "overview",
    "token_weights": "overview",
    "salience": "weight_salience",
    "attribute": "input_attribution",
    "compare_attribution": "input_attribution",
    "drift": "reasons",
    "drift_curve": "reasons",
    "damage_map": "reasons",
    "blame": "reasons",
    "layer_error": "layer_error",
    "matrix_detail": "layer_error",
    "signal": "layer_error",
    "kernel_speed": "layer_error",
    "court": "metric_court",
    "detach": "metric_court",
    "agreement": "weight_salience",
    "prompt_coverage": "weight_salience",
    "salience_export": "weight_salience",
    "evaluate": "trade_off",
    "tradeoff": "trade_off",
    "front": "trade_off",
    "sensitivity": "bit_allocation",
    "allocate": "bit_allocation",
    "guarded": "bit_allocation",
    "generate": "demo",
}
"""Kind of a study -> file stem of the page that asks for it."""

SAME_NAME = ("model", "prompt", "metric", "method", "tokens", "window", "matrix", "measure", "by")
"""Keys of a spec whose control has the same key."""


def take_over(spec: Spec) -> None:
    """Set the choices of all pages to those of a spec, its locks on the desk; to be called in a callback."""
    for key, value in chosen(spec):
        address.put(key, value)
    if "locks" in spec:
        Desk(str(spec["model"])).relock(spec["locks"])


def chosen(spec: Spec) -> Iterator[tuple[str, Any]]:
    """The controls' keys and values that lead to a spec."""
    yield from ((name, spec[name]) for name in SAME_NAME if spec.get(name) is not None)
    yield from _texts(spec)
    whole = _whole(spec)
    if whole is not None:
        yield from whole
        return
    if "prompts" in spec:
        yield "prompt", spec["prompts"][0]
    if "target" in spec:
        yield from target.choices_of(spec)
    yield from _options(spec.get("method") or spec.get("metric"), spec.get("options") if "bits" not in spec else None)
    if "mask_scope" in spec:
        yield from (("mask", round(100 * spec["top"], 4)), ("of", spec["mask_scope"]))
    family = spec.get("scheme") or (spec if "quantizer" in spec else None)
    if family and spec.get("matrix") is None:
        yield from _scheme(family)
        if "by" in spec:  # its page offers a choice of several
            yield "quantizers", [spec["quantizer"]]
    elif family:  # one matrix in detail stands on the page that compares several schemes
        yield from _schemes([family])
        yield "label", short_label(family)
    if spec.get("schemes"):
        yield from _schemes(spec["schemes"])


def _whole(spec: Spec) -> Iterator[tuple[str, Any]] | None:
    """All choices of a study whose controls are its own; None for the others."""
    if "quantizers" in spec:
        return plan_links.choices_of(spec)
    if "temperature" in spec:
        return demo.choices_of(spec)
    if "methods" in spec:
        return _drift_curve(spec) if "schemes" in spec else _trial(spec)
    return None


def _texts(spec: Spec) -> Iterator[tuple[str, Any]]:
    shown = {name: text for text, name in choices.calibration_choices(str(spec["model"])).items()}
    shown[metric_choice.PROMPTS] = metric_choice.PROMPTS_SHOWN
    for key in ("calibration", "text", "text2"):
        if spec.get(key) in shown:
            yield key, shown[spec[key]]


def _drift_curve(spec: Spec) -> Iterator[tuple[str, Any]]:
    """The part of its page that compares widths; its schemes differ in nothing else."""
    yield "prompts", "\n".join(spec["prompts"])
    yield "drifting", spec["methods"]
    yield from _scheme({**spec["schemes"][0], "bits": None})
    widths = [one["bits"] for one in spec["schemes"] if one["bits"] is not None]
    if widths:
        yield "widths", widths
    for name, options in spec["options"].items():
        yield from _options(name, options)


def _trial(spec: Spec) -> Iterator[tuple[str, Any]]:
    """Several methods on one prompt, the first of them in detail."""
    yield from target.choices_of(spec)
    yield from (("method", spec["methods"][0]), ("beside", spec["methods"][1:]))
    for name, options in spec["options"].items():
        yield from _options(name, options)
    if spec["scheme"]:
        yield from _scheme(spec["scheme"])


def _scheme(family: Spec) -> Iterator[tuple[str, Any]]:
    yield "quantizer", family["quantizer"]
    yield "group", family["group_size"]
    yield "symmetric", family["symmetric"]
    bits = family["bits"]
    if bits is not None:
        yield ("widths" if isinstance(bits, list) else "bits"), bits
    yield from _options(family["quantizer"], family["options"])


def _schemes(schemes: Sequence[Spec]) -> Iterator[tuple[str, Any]]:
    """The set of quantizers and widths that schemes were made of; groups and grids are those of the free methods."""
    known = session.descriptions("quantizers")
    yield "quantizers", list(dict.fromkeys(one["quantizer"] for one in schemes))
    widths = sorted({one["bits"] for one in schemes if one["bits"] is not None})
    if widths:
        yield "widths", widths
    free = [one for one in schemes if traits.own_group(known[one["quantizer"]]) is None]
    if free:
        yield "group", free[0]["group_size"]
    yield "symmetric", any(one["symmetric"] for one in schemes)
    for one in schemes:
        yield from _options(one["quantizer"], one["options"])


def _options(method: str | None, options: Spec | None) -> Iterator[tuple[str, Any]]:
    for name, value in (options or {}).items():
        yield f"{method}.{name}", value
