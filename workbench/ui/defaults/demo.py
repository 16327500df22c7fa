"""The question of the Demo page: what models write side by side, and what each takes."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.ui.defaults.choices import (
    DEMO,
    PROMPT,
    Question,
    Spec,
    Texts,
    calibration_of,
    quantized_scheme,
    scheme,
    spec_of,
)
from workbench.ui.numbers import plural

NEW_TOKENS = 48
DEMO_METHOD = "linearised"


def generate(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    texts: Texts | None = None,
    points: Sequence[Spec] | None = None,
    new_tokens: int = NEW_TOKENS,
    temperature: float = 0.0,
    seed: int = 0,
) -> Question:
    """What the full model and each of the points write after a prompt; points are as of `tradeoff`."""
    texts = texts or Texts()
    chosen = [width_point(quantized_scheme()["bits"])] if points is None else list(points)
    asked = {"prompt": prompt, "choices": chosen, "new_tokens": new_tokens, "temperature": temperature, "seed": seed}
    return "generate", spec_of(model, **asked, method=DEMO_METHOD, **calibration_of(texts), text=texts.text)


def width_point(bits: int) -> Spec:
    """All matrices rounded to that width, under a name that needs no explanation."""
    return {"label": plural(bits, "bit"), "scheme": scheme(bits=bits)}
