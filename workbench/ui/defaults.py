"""The questions that pages ask: one builder a kind of study, and each page's opening questions.

A spec is a plain dict with every key of its kind, always, because a result is found again by the hash of its spec.
Pages build their specs here from their choices, and `tools/make_demo.py` computes `every_opening()` ahead of time, so
that a page opens on a finished result. No Streamlit and no torch in this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import settings
from workbench.scheme import Scheme

Spec = dict[str, Any]
Question = tuple[str, Spec]
"""Kind of a study and its spec, as `jobs.client.submit` takes them."""

Explained = tuple[str | None, str | None]
"""Target and contrast, as the study `attribute` reads them."""

LIKELIEST: Explained = ("logprob:", None)
"""The log-probability of the token that the model expects most: unlike a logit it says how likely the token is."""

DEMO = "demo"
METRIC = "wanda"
METHOD = "integrated_gradients"
WIDTHS = (2, 3, 4, 8)
COURT_WIDTHS = (2, 3, 4)
COMPARED = ("rtn", "gptq")
COMPARED_WIDTHS = (2, 3, 4)
"""Quantizers and widths that the Layer error page compares at first: few enough to be computed within seconds."""

DETACHED_SHARES = (0.001, 0.005, 0.02, 0.05)
TOP = 0.01
"""Part of the weights that counts as the top ones."""

TOKENS = 4096
WINDOW = 256
PROMPT = (
    "Once upon a time, there was a little girl named Lily. She had a red ball. One day, Lily went to the park to play "
    "with her red"
)
"""The first of the embedded model's example prompts (`data/demo/prompts.json`)."""

PROMPT_LIMIT = 10_000
"""Longest prompt a page takes, in characters."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Which texts feed and which measure, and how much of them is read.

    Attributes:
        calibration: TEXT name that feeds statistics, quantizers and solvers.
        text: TEXT name that measures.
        tokens: tokens read of either.
        window: tokens of one sequence.
    """

    calibration: str = "demo:calibration"
    text: str = "demo:evaluation"
    tokens: int = TOKENS
    window: int = WINDOW


def example_prompts() -> list[dict[str, str]]:
    """Prompts that come with the embedded model, each a `text` and a `note` on what to look for; none without it."""
    try:
        held = json.loads((settings.demo_folder() / "prompts.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return held["prompts"]


def scheme(
    quantizer: str = "rtn",
    bits: int | None = 4,
    group_size: int = 64,
    symmetric: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Spec:
    """One choice of quantization for all matrices; options hold only what differs from the quantizer's defaults."""
    return {
        "quantizer": quantizer,
        "bits": bits,
        "group_size": group_size,
        "symmetric": symmetric,
        "options": dict(options or {}),
    }


def scheme_label(document: Mapping[str, Any] | None) -> str:
    """A scheme in a few words, such as `rtn, 3 bits, groups of 64`."""
    if document is None:
        return "full precision"
    bits, group = document["bits"], document["group_size"]
    words = [
        str(document["quantizer"]),
        "fixed width" if bits is None else f"{bits} bit{'' if bits == 1 else 's'}",
        "whole rows" if group == -1 else f"groups of {group}",
    ]
    return ", ".join(words + (["symmetric"] if document["symmetric"] else []))


def short_label(document: Mapping[str, Any]) -> str:
    """The name that studies give to a scheme of `scheme`, such as `rtn 3 bit g64`, with the options it names."""
    return ", ".join([Scheme.from_json(document).label, *(f"{key} {one}" for key, one in document["options"].items())])


def compared_schemes(quantizers: Sequence[str] = COMPARED, widths: Sequence[int] = COMPARED_WIDTHS) -> list[Spec]:
    """Every one of the quantizers at every one of the widths, those of a quantizer together."""
    return [scheme(name, bits) for name in quantizers for bits in sorted(widths)]


def inspect(model: str = DEMO) -> Question:
    """Matrices and sizes, nothing computed."""
    return "inspect", _spec(model)


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
    return "salience", _spec(model, **_calibration(texts or Texts()), **asked)


def salience_export(asked: Question, *, top: float = TOP, mask_scope: str = "matrix") -> Question:
    """The scores behind a question `salience` as files, with a mask of the top weights."""
    return "salience_export", {**asked[1], "top": top, "mask_scope": mask_scope}


def layer_error(model: str = DEMO, texts: Texts | None = None, *, schemes: Sequence[Spec] | None = None) -> Question:
    """Error of every matrix under every scheme."""
    chosen = list(schemes) if schemes is not None else compared_schemes()
    return "layer_error", _spec(model, **_calibration(texts or Texts()), schemes=chosen)


def quality(model: str = DEMO, texts: Texts | None = None, *, schemes: Sequence[Spec] | None = None) -> Question:
    """Quality against size of the same schemes, each under the name that it has in the table of errors."""
    chosen = schemes if schemes is not None else compared_schemes()
    return tradeoff(model, texts, points=[{"label": short_label(one), "scheme": one} for one in chosen])


def signal(model: str = DEMO, texts: Texts | None = None, *, schemes: Sequence[Spec] | None = None) -> Question:
    """Hidden states by depth, in the full model and under every scheme."""
    texts, chosen = texts or Texts(), list(schemes) if schemes is not None else compared_schemes()
    return "signal", _spec(model, **_calibration(texts), text=texts.text, schemes=chosen)


def matrix_detail(model: str, matrix: str, texts: Texts | None = None, *, scheme: Spec | None = None) -> Question:
    """One matrix before and after one scheme."""
    texts = texts or Texts()
    return "matrix_detail", _spec(model, **_calibration(texts), matrix=matrix, scheme=scheme or _default_scheme())


def kernel_speed(model: str = DEMO, *, scheme: Spec | None = None, widths: Sequence[int] = WIDTHS) -> Question:
    """How fast the low-bit kernels are on this machine, with the grid of `scheme`."""
    grid = {name: (scheme or _default_scheme())[name] for name in ("group_size", "symmetric")}
    return "kernel_speed", _spec(model, bits=sorted(widths), **grid)


def evaluate(
    model: str = DEMO, texts: Texts | None = None, *, scheme: Spec | None = None, plan: Spec | None = None
) -> Question:
    """Quality of one choice of quantization on the evaluation text."""
    texts = texts or Texts()
    return "evaluate", _spec(model, **_calibration(texts), text=texts.text, scheme=scheme, plan=plan)


def sensitivity(
    model: str = DEMO,
    texts: Texts | None = None,
    *,
    scheme: Spec | None = None,
    widths: Sequence[int] = WIDTHS,
    measure: str = "loss",
    by: str = "isolated",
) -> Question:
    """What each matrix costs at each width; of `scheme` all but its bits is used."""
    texts, family = texts or Texts(), _family(scheme)
    return "sensitivity", _spec(model, **_calibration(texts), **family, bits=sorted(widths), measure=measure, by=by)


def court(
    model: str = DEMO, texts: Texts | None = None, *, scheme: Spec | None = None, widths: Sequence[int] = COURT_WIDTHS
) -> Question:
    """What each sensitivity metric predicts against what is measured; of `scheme` all but its bits is used."""
    texts, family = texts or Texts(), _family(scheme)
    return "court", _spec(model, **_calibration(texts), text=texts.text, **family, bits=sorted(widths))


def detach(model: str = DEMO, texts: Texts | None = None, *, scheme: Spec | None = None) -> Question:
    """What is won by keeping the top weights of each metric at full precision."""
    texts, chosen = texts or Texts(), scheme or _quantized_scheme()
    asked = {"metrics": None, "shares": list(DETACHED_SHARES), "seed": 0}
    return "detach", _spec(model, **_calibration(texts), text=texts.text, scheme=chosen, **asked)


def agreement(model: str = DEMO, texts: Texts | None = None, *, scheme: Spec | None = None) -> Question:
    """How far every two metrics of single weights agree; the scheme is for those that compare."""
    asked = {"metrics": None, "scheme": scheme or _quantized_scheme(), "top": TOP}
    return "agreement", _spec(model, **_calibration(texts or Texts()), **asked)


def prompt_coverage(model: str = DEMO, prompt: str = PROMPT, texts: Texts | None = None) -> Question:
    """Whether the weights that matter for a prompt are those that matter on the calibration text."""
    return "prompt_coverage", _spec(model, **_calibration(texts or Texts()), prompt=prompt, top=TOP)


def tradeoff(model: str = DEMO, texts: Texts | None = None, *, points: Sequence[Spec] | None = None) -> Question:
    """Quality against size for several choices; each point is `{"label", "scheme"}` or `{"label", "plan"}`."""
    texts = texts or Texts()
    chosen = list(points) if points is not None else uniform_points()
    return "tradeoff", _spec(model, **_calibration(texts), text=texts.text, points=chosen)


def uniform_points(chosen: Spec | None = None, widths: Sequence[int] = WIDTHS) -> list[Spec]:
    """One point a width, all else as in the chosen scheme; without widths the one point of a fixed width."""
    family = chosen or _default_scheme()
    schemes = [{**family, "bits": bits} for bits in sorted(widths)] or [{**family, "bits": None}]
    return [{"label": scheme_label(one), "scheme": one} for one in schemes]


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
    return "attribute", _spec(
        model,
        prompt=prompt,
        target=explained[0],
        contrast=explained[1],
        method=method,
        options=dict(options or {}),
        **_quantized(scheme, plan, texts),
    )


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
    return "attention_maps", _spec(model, **asked, **_quantized(scheme, plan, texts))


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
    quantized = _quantized(scheme, plan, texts)
    return "token_weights", _spec(model, prompt=prompt, target=explained[0], contrast=explained[1], **quantized)


def overview(model: str = DEMO, texts: Texts | None = None, *, metric: str = METRIC) -> dict[str, Question]:
    """The questions of the Overview page by the name of their part."""
    return {
        "sizes": inspect(model),
        "weights": salience(model, texts, metric=metric),
        "costs": tradeoff(model, texts),
        "inputs": attribute(model),
        "token weights": token_weights(model),
    }


def input_attribution(
    model: str = DEMO, texts: Texts | None = None, *, quantized: Spec | None = None
) -> dict[str, Question]:
    """The questions of the Input attribution page: the full model and a quantized one."""
    fewer_bits = attribute(model, scheme=quantized or _quantized_scheme(), texts=texts)
    return {"full": attribute(model), "quantized": fewer_bits}


def layer_errors(
    model: str = DEMO, texts: Texts | None = None, *, schemes: Sequence[Spec] | None = None
) -> dict[str, Question]:
    """The questions of the Layer error page by the name of their part."""
    return {
        "errors": layer_error(model, texts, schemes=schemes),
        "quality": quality(model, texts, schemes=schemes),
        "signal": signal(model, texts, schemes=schemes),
    }


def every_opening(model: str = DEMO, texts: Texts | None = None) -> list[Question]:
    """What pages ask of a model before anybody has chosen anything, each question once."""
    questions = [
        *overview(model, texts).values(),
        *input_attribution(model, texts).values(),
        *layer_errors(model, texts).values(),
        sensitivity(model, texts),
        court(model, texts),
        detach(model, texts),
    ]
    return [question for place, question in enumerate(questions) if question not in questions[:place]]


def _spec(model: str, **keys: Any) -> Spec:
    return {"model": model, "allow_download": False, **keys}


def _calibration(texts: Texts) -> Spec:
    return {"calibration": texts.calibration, "tokens": texts.tokens, "window": texts.window}


def _quantized(scheme: Spec | None, plan: Spec | None, texts: Texts | None) -> Spec:
    """A choice of quantization with the text that its quantizer may read; the full model reads none."""
    read = None if scheme is None and plan is None else (texts or Texts()).calibration
    return {"scheme": scheme, "plan": plan, "calibration": read}


def _default_scheme() -> Spec:
    return scheme()


def _quantized_scheme() -> Spec:
    return scheme(bits=3)


def _family(chosen: Spec | None) -> Spec:
    family = dict(chosen or _default_scheme())
    family.pop("bits")
    return family
