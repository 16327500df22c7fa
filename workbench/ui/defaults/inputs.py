"""Questions about input tokens: which matter, where heads look, which weights answer for a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.ui.defaults.choices import (
    DEMO,
    DRIFT_METHODS,
    LIKELIEST,
    METHOD,
    PROMPT,
    WIDTHS,
    Explained,
    Question,
    Spec,
    Texts,
    compared_schemes,
    default_scheme,
    example_prompts,
    quantized_of,
    spec_of,
)

AGREED_TOP = 3
"""Tokens whose overlap is counted when two maps are compared."""

NOISE_BITS, DRAWS = 4, 8
"""Width and number of the draws of stochastic rounding that error bars come from at first."""

LEADING = 20
"""Groups of weights that are listed, those that carry most first."""


def attribute(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    explained: Explained = LIKELIEST,
    method: str = METHOD,
    options: Mapping[str, Any] | None = None,
    scheme: Spec | None = None,
    plan: Spec | None = None,
    texts: Texts | None = None,
) -> Question:
    """What each token of the prompt contributes to the target; the likeliest next token when no target is named."""
    units = {
        "second": explained.second,
        "slots": None,
        "granularity": None,
        "aggregation": None,
    }  # pages gather scores themselves
    asked = {**explained_keys(explained), "method": method, "options": dict(options or {})}
    return "attribute", spec_of(model, prompt=prompt, **asked, **units, **quantized_of(scheme, plan, texts))


def explained_keys(explained: Explained) -> Spec:
    """What is explained, as keys of a spec."""
    span = None if explained.explain is None else list(explained.explain)
    return {"target": explained.target, "contrast": explained.contrast, "explain": span, "chat": explained.chat}


def attention_maps(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    layer: int | None = None,
    head: int | None = None,
    limit: float | None = None,
    scheme: Spec | None = None,
    plan: Spec | None = None,
    texts: Texts | None = None,
) -> Question:
    """Where every head looks; with a layer also that layer's map, of one head or of all, their mean."""
    asked = {"prompt": prompt, "layer": layer, "head": head, "limit": limit}
    return "attention_maps", spec_of(model, **asked, **quantized_of(scheme, plan, texts))


def token_weights(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    explained: Explained = LIKELIEST,
    scheme: Spec | None = None,
    plan: Spec | None = None,
    texts: Texts | None = None,
) -> Question:
    """Gradient times weight of every matrix, split over the tokens of the prompt."""
    quantized = quantized_of(scheme, plan, texts)
    return "token_weights", spec_of(model, prompt=prompt, target=explained[0], contrast=explained[1], **quantized)


def drift(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    explained: Explained = LIKELIEST,
    method: str = METHOD,
    options: Mapping[str, Any] | None = None,
    scheme: Spec | None = None,
    plan: Spec | None = None,
    texts: Texts | None = None,
) -> Question:
    """One prompt's map in the full model beside that of the quantized one, and how far two draws of it agree."""
    asked = {"prompts": [prompt], "target": explained[0], "contrast": explained[1], "method": method}
    settings = {"options": dict(options or {}), "top_k": AGREED_TOP}
    return "drift", spec_of(model, **asked, **settings, **quantized_of(scheme, plan, texts))


def drift_curve(
    model: str = DEMO,
    prompts: Sequence[str] | None = None,
    *,
    methods: Sequence[str] = DRIFT_METHODS,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    schemes: Sequence[Spec] | None = None,
    texts: Texts | None = None,
) -> Question:
    """How far maps move at every width, over several prompts; the example prompts when none are given."""
    asked = {"prompts": list(prompts or drift_prompts()), "target": LIKELIEST[0], "methods": list(methods)}
    chosen = list(schemes) if schemes is not None else compared_schemes(("rtn",), WIDTHS)
    settings = {name: dict(one) for name, one in (options or {}).items() if one}
    read = (texts or Texts()).calibration
    return "drift_curve", spec_of(model, **asked, schemes=chosen, options=settings, top_k=AGREED_TOP, calibration=read)


def drift_prompts() -> list[str]:
    """The prompts over which drift is averaged at first."""
    return [one["text"] for one in example_prompts()] or [PROMPT]


def damage_map(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    explained: Explained = LIKELIEST,
    scheme: Spec | None = None,
    plan: Spec | None = None,
    texts: Texts | None = None,
) -> Question:
    """Which matrix loses what of the target at which token; the study refuses without a choice of quantization."""
    asked = {"prompt": prompt, "target": explained[0], "contrast": explained[1], "nodes": 8}
    return "damage_map", spec_of(model, **asked, **quantized_of(scheme, plan, texts))


def blame(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    scheme: Spec | None = None,
    plan: Spec | None = None,
    texts: Texts | None = None,
) -> Question:
    """Which tokens make the quantized model's prediction differ from the full one's."""
    return "blame", spec_of(model, prompt=prompt, baseline="auto", **quantized_of(scheme, plan, texts))


def reliability(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    explained: Explained = LIKELIEST,
    methods: Mapping[str, Mapping[str, Any]],
    bits: int = NOISE_BITS,
    draws: int = DRAWS,
    scheme: Spec | None = None,
) -> Question:
    """How far maps move when weights are rounded by chance; of `scheme` the group size and the grid are used."""
    grid = {name: (scheme or default_scheme())[name] for name in ("group_size", "symmetric")}
    asked = {"prompt": prompt, "target": explained[0], "contrast": explained[1], "methods": list(methods)}
    settings = {"options": {name: dict(options) for name, options in methods.items() if options}}
    return "reliability", spec_of(model, **asked, **settings, bits=bits, **grid, draws=draws, seed=0)


def token_flow(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    explained: Explained = LIKELIEST,
    position: int | None = None,
    scheme: Spec | None = None,
    plan: Spec | None = None,
    texts: Texts | None = None,
) -> Question:
    """Which groups of weights carry a token, the last one when none is named, and what rounding does to them."""
    asked = {"prompt": prompt, "position": position, "target": explained[0], "contrast": explained[1], "top": LEADING}
    return "token_flow", spec_of(model, **asked, **quantized_of(scheme, plan, texts))
