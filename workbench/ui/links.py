"""From a job back to the page that shows it: which page, and which choices that page needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from workbench.ui import address, choices, metric_choice, session, traits
from workbench.ui.defaults import Spec, short_label

PAGES = {
    "inspect": "overview",
    "token_weights": "overview",
    "salience": "weight_salience",
    "attribute": "input_attribution",
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
    "sensitivity": "bit_allocation",
}
"""Kind of a study -> file stem of the page that asks for it."""

SAME_NAME = ("model", "prompt", "metric", "method", "tokens", "window", "matrix", "measure", "by")
"""Keys of a spec whose control has the same key."""


def take_over(spec: Spec) -> None:
    """Set the choices of all pages to those of a spec; to be called in a callback."""
    for key, value in chosen(spec):
        address.put(key, value)


def chosen(spec: Spec) -> Iterator[tuple[str, Any]]:
    """The controls' keys and values that lead to a spec."""
    yield from ((name, spec[name]) for name in SAME_NAME if spec.get(name) is not None)
    yield from _texts(spec)
    if "target" in spec:
        yield from _target(spec)
    yield from _options(spec.get("method") or spec.get("metric"), spec.get("options") if "bits" not in spec else None)
    if "mask_scope" in spec:
        yield from (("mask", round(100 * spec["top"], 4)), ("of", spec["mask_scope"]))
    family = spec.get("scheme") or (spec if "quantizer" in spec else None)
    if family and spec.get("matrix") is None:
        yield from _scheme(family)
    elif family:  # one matrix in detail stands on the page that compares several schemes
        yield from _schemes([family])
        yield "label", short_label(family)
    if spec.get("schemes"):
        yield from _schemes(spec["schemes"])


def _texts(spec: Spec) -> Iterator[tuple[str, Any]]:
    shown = {name: text for text, name in choices.text_choices(str(spec["model"])).items()}
    shown[metric_choice.PROMPTS] = metric_choice.PROMPTS_SHOWN
    for key in ("calibration", "text", "text2"):
        if spec.get(key) in shown:
            yield key, shown[spec[key]]


def _target(spec: Spec) -> Iterator[tuple[str, Any]]:
    target = spec["target"] or ""
    measured = "logprob" if target.startswith("logprob:") else "logit"
    yield "output", measured
    yield "target", target.removeprefix("logprob:").removeprefix("logit:")
    yield "contrast", spec["contrast"] or ""


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
