"""Questions about weights: what there is, which ones matter, what each matrix loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.ui.defaults.choices import (
    COURT_WIDTHS,
    DEMO,
    DETACHED_SHARES,
    METRIC,
    PROMPT,
    TOP,
    WIDTHS,
    Question,
    Spec,
    Texts,
    calibration_of,
    compared_schemes,
    default_scheme,
    family_of,
    quantized_scheme,
    spec_of,
)


def inspect(model: str = DEMO) -> Question:
    """Matrices and sizes, nothing computed."""
    return "inspect", spec_of(model)


def salience(
    model: str = DEMO,
    texts: Texts | None = None,
    *,
    metric: str = METRIC,
    options: Mapping[str, Any] | None = None,
    scheme: Spec | None = None,
    plan: Spec | None = None,
    text2: str | None = None,
) -> Question:
    """A salience metric over all matrices; scheme, plan and second text only for metrics that look at them."""
    asked = {"metric": metric, "options": dict(options or {}), "scheme": scheme, "plan": plan, "text2": text2}
    return "salience", spec_of(model, **calibration_of(texts or Texts()), **asked)


def salience_export(asked: Question, *, top: float = TOP, mask_scope: str = "matrix") -> Question:
    """The scores behind a question `salience` as files, with a mask of the top weights."""
    return "salience_export", {**asked[1], "top": top, "mask_scope": mask_scope}


def layer_error(model: str = DEMO, texts: Texts | None = None, *, schemes: Sequence[Spec] | None = None) -> Question:
    """Error of every matrix under every scheme."""
    chosen = list(schemes) if schemes is not None else compared_schemes()
    return "layer_error", spec_of(model, **calibration_of(texts or Texts()), schemes=chosen)


def signal(model: str = DEMO, texts: Texts | None = None, *, schemes: Sequence[Spec] | None = None) -> Question:
    """Hidden states by depth, in the full model and under every scheme."""
    texts, chosen = texts or Texts(), list(schemes) if schemes is not None else compared_schemes()
    return "signal", spec_of(model, **calibration_of(texts), text=texts.text, schemes=chosen)


def matrix_detail(model: str, matrix: str, texts: Texts | None = None, *, scheme: Spec | None = None) -> Question:
    """One matrix before and after one scheme."""
    texts = texts or Texts()
    return "matrix_detail", spec_of(model, **calibration_of(texts), matrix=matrix, scheme=scheme or default_scheme())


def kernel_speed(model: str = DEMO, *, scheme: Spec | None = None, widths: Sequence[int] = WIDTHS) -> Question:
    """How fast the low-bit kernels are on this machine, with the grid of `scheme`."""
    grid = {name: (scheme or default_scheme())[name] for name in ("group_size", "symmetric")}
    return "kernel_speed", spec_of(model, bits=sorted(widths), **grid)


def detach(model: str = DEMO, texts: Texts | None = None, *, scheme: Spec | None = None) -> Question:
    """What is won by keeping the top weights of each metric at full precision."""
    texts, chosen = texts or Texts(), scheme or quantized_scheme()
    asked = {"metrics": None, "shares": list(DETACHED_SHARES), "seed": 0}
    return "detach", spec_of(model, **calibration_of(texts), text=texts.text, scheme=chosen, **asked)


def agreement(model: str = DEMO, texts: Texts | None = None, *, scheme: Spec | None = None) -> Question:
    """How far every two metrics of single weights agree; the scheme is for those that compare."""
    asked = {"metrics": None, "scheme": scheme or quantized_scheme(), "top": TOP}
    return "agreement", spec_of(model, **calibration_of(texts or Texts()), **asked)


def prompt_coverage(model: str = DEMO, prompt: str = PROMPT, texts: Texts | None = None) -> Question:
    """Whether the weights that matter for a prompt are those that matter on the calibration text."""
    return "prompt_coverage", spec_of(model, **calibration_of(texts or Texts()), prompt=prompt, top=TOP)


def court(
    model: str = DEMO, texts: Texts | None = None, *, scheme: Spec | None = None, widths: Sequence[int] = COURT_WIDTHS
) -> Question:
    """What each sensitivity metric predicts against what is measured; of `scheme` all but its bits is used."""
    texts, family = texts or Texts(), family_of(scheme)
    return "court", spec_of(model, **calibration_of(texts), text=texts.text, **family, bits=sorted(widths))
