"""Which input tokens matter for the next token, in the full model or in a quantized one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pandas as pd

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target, parse_target, top_tokens
from workbench.attribution.tokens import Prompt
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.progress import Progress, Steps, within
from workbench.registry import attribution
from workbench.results import Result
from workbench.studies.choice import Assignment, quantize_assignment, read_assignment, reads_calibration
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows

LIKELIEST = 10


def attribute(
    loaded: LoadedModel,
    *,
    prompt: str,
    method: str = "integrated_gradients",
    target: str | None = None,
    contrast: str | None = None,
    options: Mapping[str, Any] | None = None,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Score every token of a prompt with one method.

    Without a target the full model's most likely next token is explained, also in a quantized model, so that the two
    maps answer the same question.
    """
    context = context or Context()
    chosen = attribution.get(method)
    settings = chosen.parse_options(options)
    adapter, read, asked = explained(loaded, prompt, target, contrast)
    weights = yield from within(quantized_weights(loaded, scheme, plan, calibration, context), 0.0, 0.4)
    yield Progress(0.4, 1.0, f"{method} of {len(read.tokens)} tokens")
    with overlay(loaded.model, weights) if weights is not None else nullcontext():
        found: Attribution = chosen(adapter, read.ids, asked, **settings)
        likeliest = top_tokens(adapter, adapter.predict(read.ids), LIKELIEST)
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "prompt": prompt,
        **_tokens(read),
        "scores": found.scores.tolist(),
        "target": asked.to_json(),
        "value": found.value,
        "baseline_value": found.baseline_value,
        "baseline": found.baseline,
        "completeness_gap": found.completeness_gap,
        "relative_gap": found.relative_gap,
        "nodes": found.nodes,
        "held_fixed": list(found.held_fixed) or [False] * len(read.tokens),
        "method": method,
        "signed": chosen.signed if found.signed is None else found.signed,
        "biases": None if found.biases is None else found.biases.tolist(),
        "options": settings,
        "notes": list(found.notes),
        "top": likeliest,
    }
    table = pd.DataFrame(
        {"position": range(len(read.tokens)), "token": list(read.tokens), "score": found.scores.tolist()}
    )
    return Result(document, {"tokens": table})


def quantized_weights(
    loaded: LoadedModel,
    scheme: Mapping[str, Any] | None,
    plan: Mapping[str, Any] | None,
    calibration: str | None,
    context: Context,
) -> Steps[dict[str, Any] | None]:
    """The dense weights of a choice of quantization, None for the full model."""
    assignment: Assignment | None = read_assignment(loaded, scheme, plan)
    if assignment is None:
        return None
    read = reads_calibration(assignment)
    windows = calibration_windows(loaded, calibration, None, None) if read else None
    return (yield from quantize_assignment(loaded, assignment, windows, context)).dense()


def explained(
    loaded: LoadedModel, prompt: str, target: str | None, contrast: str | None
) -> tuple[Adapter, Prompt, Target]:
    """The adapter, the prompt as tokens, and what is to be explained, chosen on the full model."""
    adapter = Adapter(loaded.model, loaded.tokenizer, loaded.context)
    read = adapter.encode(prompt)
    return adapter, read, parse_target(adapter, read, target or "", contrast)


def _tokens(read: Prompt) -> dict[str, Any]:
    return {"tokens": list(read.tokens), "ids": read.ids[0].tolist(), "special": list(read.special)}
