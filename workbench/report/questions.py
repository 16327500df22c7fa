"""What a report asks of the studies: one spec a part, of one model and one choice of quantization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.allocation.plan import read_plan, stored_bits
from workbench.registry import quantizers
from workbench.scheme import Scheme
from workbench.ui.defaults import PROMPT, WIDTHS

NEW_TOKENS = 48


def label_of(choice: Mapping[str, Any]) -> str:
    """The choice in a few words."""
    if choice["plan"] is not None:
        return f"a plan of {stored_bits(read_plan(choice['plan'])):.4g} stored bits"
    return Scheme.from_json(choice["scheme"]).label


def questions(
    model: Mapping[str, Any], choice: Mapping[str, Any], texts: Mapping[str, Any], prompt: str | None, new_tokens: int
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Part of the report -> kind of a study and its spec.

    Args:
        model: `model` and `allow_download`.
        choice: `scheme` and `plan`, one of them None.
        texts: `text`, `calibration`, `tokens` and `window`.
        prompt: what is continued and explained; the embedded model's first example when None.
        new_tokens: length of the texts.
    """
    mine = {"label": label_of(choice), **{name: one for name, one in choice.items() if one is not None}}
    asked = {"prompt": PROMPT if prompt is None else prompt, "new_tokens": new_tokens, "choices": [mine]}
    return {
        "inspected": ("inspect", {**model}),
        "evaluated": ("evaluate", {**model, **choice, **texts}),
        "compared": ("tradeoff", {**model, **texts, "points": uniform(choice["scheme"])}),
        "written": ("generate", {**model, **texts, **asked}),
    }


def uniform(scheme: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The same quantizer at every usual width; rtn where there is no choice of width, and beside a plan."""
    method = quantizers.get("rtn" if scheme is None else str(scheme["quantizer"]))
    if scheme is None or method.traits.get("fixed_width"):
        family, widths = Scheme().to_json(), WIDTHS
    else:
        family, widths = dict(scheme), [bits for bits in WIDTHS if bits in method.traits.get("widths", WIDTHS)]
    schemes = [{**family, "bits": bits} for bits in widths]
    return [{"label": Scheme.from_json(one).label, "scheme": one} for one in schemes]
