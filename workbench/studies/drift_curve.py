"""Where the reasons begin to move: drift of several methods' maps under several choices of quantization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.progress import Steps, within
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.registry import attribution
from workbench.results import Result
from workbench.studies.attribute import quantized_weights
from workbench.studies.context import Context
from workbench.studies.drift import NOTE, TOP_K, another_draw, ask, noise_floors, sides
from workbench.studies.drift_rows import MEANS, Asked, Side, means, row

MOST_RUNS = 4096
"""Most maps that one study makes: prompts times methods times choices."""

FULL_SHARE = 0.4
"""About how much of the work the full model's maps and their noise floors are."""

Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Held:
    """One method's maps of all prompts in the full model, and how far another draw of them agrees."""

    asked: list[Asked]
    full: list[Side]
    floors: list[dict[str, float | None]]


def drift_curve(
    loaded: LoadedModel,
    *,
    prompts: Sequence[str],
    methods: Sequence[str],
    schemes: Sequence[Mapping[str, Any]],
    target: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    top_k: int = TOP_K,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """The numbers of the study `drift`, for every method under every choice; the full model's maps are made once.

    Args:
        loaded: the model.
        prompts: texts.
        methods: attribution methods, each once.
        schemes: choices of quantization, each for all matrices.
        target: next token, the full model's likeliest after each prompt when not given.
        options: method -> its options, defaults where there are none.
        top_k: tokens whose overlap is counted.
        calibration: text for quantizers that read one.
        context: what the process shares.

    Raises:
        WorkbenchError: nothing to compare or too much of it, a prompt that cannot be explained, a method that refuses.
    """
    _check(prompts, methods, schemes, top_k)
    chosen = {name: attribution.get(name) for name in methods}
    settings = {name: method.parse_options((options or {}).get(name)) for name, method in chosen.items()}
    completed = [complete_scheme(one) for one in schemes]
    held: dict[str, _Held] = {}
    for done, (name, method) in enumerate(chosen.items()):
        other = another_draw(method, settings[name])
        asked = [ask(loaded, text, target, None, method, settings[name], other) for text in prompts]
        steps = _in_full(asked, top_k)
        held[name] = yield from within(steps, *_part(done, len(chosen), 0.0, FULL_SHARE))
    found: list[dict[str, Any]] = []
    for done, one in enumerate(completed):
        steps = _under(loaded, one.to_json(), held, top_k, calibration, context or Context())
        rows = yield from within(steps, *_part(done, len(completed), FULL_SHARE, 1.0))
        found += [{"label": one.label, "bits": one.bits, "quantizer": one.quantizer, **kept} for kept in rows]
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "prompts": list(prompts),
        "methods": settings,
        "schemes": [{"label": one.label, **one.to_json()} for one in completed],
        "top_k": top_k,
        "points": [_point(point) for point in found],
        "floors": {name: _floor(one) for name, one in held.items()},
        "note": NOTE,
    }
    return Result(document, {"curve": _curve(document["points"]), "prompts": _by_prompt(found)})


def _check(prompts: Sequence[str], methods: Sequence[str], schemes: Sequence[Any], top_k: int) -> None:
    if not prompts or not methods or not schemes or top_k < 1:
        raise WorkbenchError(
            f"{len(prompts)} prompts, {len(methods)} methods and {len(schemes)} choices of quantization were given and "
            f"top_k is {top_k}; each must be at least 1"
        )
    if len(set(methods)) < len(methods):
        raise WorkbenchError(f"methods names one twice: {', '.join(methods)}; give each once")
    runs = len(prompts) * len(methods) * len(schemes)
    if runs > MOST_RUNS:
        raise WorkbenchError(f"{runs} maps were asked for; at most {MOST_RUNS}: take fewer prompts, methods or widths")


def _part(done: int, count: int, start: float, stop: float) -> tuple[float, float]:
    """Where a step of equal ones begins and ends."""
    width = (stop - start) / count
    return start + done * width, start + (done + 1) * width


def _in_full(asked: list[Asked], top_k: int) -> Steps[_Held]:
    full = yield from within(sides(asked, "the full model"), 0.0, 0.5)
    floors = yield from within(noise_floors(asked, full, top_k), 0.5, 1.0)
    return _Held(asked, full, floors)


def _under(
    loaded: LoadedModel,
    scheme: Mapping[str, Any],
    held: Mapping[str, _Held],
    top_k: int,
    calibration: str | None,
    context: Context,
) -> Steps[list[dict[str, Any]]]:
    """One entry a method: its name and its rows, with all matrices quantized by one scheme."""
    found = []
    weights = yield from within(quantized_weights(loaded, scheme, None, calibration, context), 0.0, 0.4)
    with overlay(loaded.model, weights or {}):
        for done, (name, one) in enumerate(held.items()):
            steps = sides(one.asked, f"the model at {scheme['bits'] or 'its'} bits")
            quantized = yield from within(steps, *_part(done, len(held), 0.4, 1.0))
            kept = zip(one.asked, one.full, quantized, one.floors, strict=True)
            found.append({"method": name, "rows": [row(place, *parts, top_k) for place, parts in enumerate(kept)]})
    return found


def _point(found: Found) -> dict[str, Any]:
    """One point of the curve: what was asked, and the means over prompts."""
    return {name: value for name, value in found.items() if name != "rows"} | means(found["rows"])


def _floor(held: _Held) -> dict[str, float | None]:
    """The mean over prompts of what another draw of the full model's map agrees, by measure."""
    known = {name: [value for one in held.floors if (value := one[name]) is not None] for name in held.floors[0]}
    return {name: fmean(values) if values else None for name, values in known.items()}


def _curve(points: Sequence[Found]) -> pd.DataFrame:
    named = [{name: one[name] for name in ("method", "label", "quantizer", "bits")} for one in points]
    frame = pd.DataFrame(named).astype({"bits": "Int64"})
    for name in MEANS:
        frame[name] = pd.Series([one[name] for one in points], dtype="float64")
    return frame.assign(top1_agreement=[one["same_answer"] for one in points])


def _by_prompt(found: Sequence[Found]) -> pd.DataFrame:
    """One row a method, choice and prompt, so that the spread over prompts can be seen."""
    rows = [
        {name: one[name] for name in ("method", "label", "bits")}
        | {"prompt": kept["number"], "text": kept["prompt"][:80], "same_answer": kept["same_answer"]}
        for one in found
        for kept in one["rows"]
    ]
    frame = pd.DataFrame(rows).astype({"bits": "Int64"})
    for name in MEANS:
        frame[name] = pd.Series([kept[name] for one in found for kept in one["rows"]], dtype="float64")
    return frame
