"""What questions are made of: the texts, the schemes, and the choices that nobody has made yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from workbench import settings
from workbench.scheme import Scheme
from workbench.usual import TOKENS, WINDOW

Spec = dict[str, Any]
Question = tuple[str, Spec]
"""Kind of a study and its spec, as `jobs.client.submit` takes them."""


class Explained(NamedTuple):
    """What is explained, as the study `attribute` reads it.

    Attributes:
        target: kind and tokens.
        contrast: the token that it is held against.
        explain: tokens of the prompt that are explained, given those before: the first, and one past the last.
        chat: whether the prompt is put into the model's chat template.
        second: for an encoder, the other text of a pair or the one that the prompt is compared with.
    """

    target: str | None
    contrast: str | None = None
    explain: tuple[int, int] | None = None
    chat: bool = False
    second: str | None = None


LIKELIEST = Explained("logprob:")
"""The log-probability of the token that the model expects most: unlike a logit it says how likely the token is."""

DEMO = "demo"
METRIC = "wanda"
METHOD = "integrated_gradients"
BESIDE = ("linearised", "occlusion")
"""Methods whose maps stand beside the one in detail at first: quick, and of two other kinds."""

WIDTHS = (2, 3, 4, 8)
COURT_WIDTHS = (2, 3, 4)
DRIFT_METHODS = ("linearised", "integrated_gradients", "occlusion")
"""Methods whose drift is drawn against the width at first: quick, and of three different kinds."""

COMPARED = ("rtn", "gptq")
COMPARED_WIDTHS = (2, 3, 4)
"""Quantizers and widths that the Layer error page compares at first: few enough to be computed within seconds."""

DETACHED_SHARES = (0.001, 0.005, 0.02, 0.05)
TOP = 0.01
"""Part of the weights that counts as the top ones."""

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


def uniform_points(chosen: Spec | None = None, widths: Sequence[int] = WIDTHS) -> list[Spec]:
    """One point a width, all else as in the chosen scheme; without widths the one point of a fixed width."""
    family = chosen or default_scheme()
    schemes = [{**family, "bits": bits} for bits in sorted(widths)] or [{**family, "bits": None}]
    return [{"label": scheme_label(one), "scheme": one} for one in schemes]


def spec_of(model: str, **keys: Any) -> Spec:
    """A spec of the model and these keys."""
    return {"model": model, "allow_download": False, **keys}


def calibration_of(texts: Texts) -> Spec:
    """The keys of a study that reads the calibration text."""
    return {"calibration": texts.calibration, "tokens": texts.tokens, "window": texts.window}


def quantized_of(scheme: Spec | None, plan: Spec | None, texts: Texts | None) -> Spec:
    """A choice of quantization with the text that its quantizer may read; the full model reads none."""
    read = None if scheme is None and plan is None else (texts or Texts()).calibration
    return {"scheme": scheme, "plan": plan, "calibration": read}


def default_scheme() -> Spec:
    """What is chosen before anybody has chosen."""
    return scheme()


def quantized_scheme() -> Spec:
    """The scheme of pages that hold a quantized model against the full one: few enough bits to see a change."""
    return scheme(bits=3)


def family_of(chosen: Spec | None) -> Spec:
    """A scheme without its bits."""
    family = dict(chosen or default_scheme())
    family.pop("bits")
    return family
