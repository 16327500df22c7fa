"""Same answer, same reasons? Two traffic lights and a sentence each, made from the numbers of one prompt.

The bounds are rules of thumb and are printed beside the lights. No Streamlit here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workbench.ui.compare import agreement_words
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent
from workbench.ui.sentences import quoted

Colour = Literal["green", "orange", "red", "gray"]

LITTLE_KL = 0.05
"""Divergence, in nats, up to which two predictions count as alike."""

LITTLE_MOVED, MUCH_MOVED = 0.1, 0.25
"""Parts of all weight that move to other tokens: up to the first the reasons are the same, above the second others.

Taken rather than a rank correlation, in which the many tokens that hardly matter count as much as those that do.
"""

TOP_SHARE = 2 / 3
"""Part of the strongest tokens that two maps with the same reasons have in common at least."""


@dataclass(frozen=True)
class Light:
    """One traffic light.

    Attributes:
        colour: `green`, `orange`, `red`, or `gray` where it cannot be told.
        icon: a sign that says the same without colour.
        words: the answer in a few words.
        sentence: the numbers behind it, Markdown.
    """

    colour: Colour
    icon: str
    words: str
    sentence: str


_ICONS = {"green": "check_circle", "orange": "warning", "red": "cancel", "gray": "help"}


def _light(colour: Colour, words: str, sentence: str) -> Light:
    return Light(colour, f":material/{_ICONS[colour]}:", words, sentence)


def answer_light(row: Mapping[str, Any]) -> Light:
    """Whether both models predict the same next token, from one prompt of study `drift`."""
    full, other = quoted(row["full_answer"]), quoted(row["quantized_answer"])
    shares = f"{percent(row['full_share'])} in the full model, {percent(row['quantized_share'])} in the quantized one"
    apart = f"The two predictions are {number(row['kl'])} nats apart (KL)."
    if not row["same_answer"]:
        told = f"The full model expects {full} most, the quantized model {other} ({full} has {shares}). {apart}"
        return _light("red", "another answer", told)
    told = f"Both models expect {full} most ({shares}). {apart}"
    if row["kl"] <= LITTLE_KL:
        return _light("green", "same answer", told)
    return _light("orange", "same answer, less alike", told)


def reasons_light(row: Mapping[str, Any], method: str, top_k: int) -> Light:
    """Whether both models have the same reasons, as a method tells them, from one prompt of study `drift`."""
    moved, overlap, noise = row["l1"], row["top_k_overlap"], row["noise_l1"]
    if row["spearman"] is None or moved is None or overlap is None:
        return _light("gray", "reasons cannot be told", "All scores are equal in one of the models: there is no order.")
    moved, noise = moved / 2, (noise or 0.0) / 2
    if 0 < moved <= noise:
        colour, words = "green", "same reasons, within the method's own chance"
    elif moved <= LITTLE_MOVED and overlap >= TOP_SHARE - 1e-9:
        colour, words = "green", "same reasons"
    elif moved <= MUCH_MOVED:
        colour, words = "orange", "partly other reasons"
    else:
        colour, words = "red", "other reasons"
    top_k = min(top_k, len(row["tokens"]) - sum(row["special"]))
    told = (
        f"By {markdown(method)}, {percent(moved)} of the weight of the tokens has moved to other ones or changed its "
        f"sign; {round(overlap * top_k)} of the {top_k} strongest tokens are the same, and "
        f"{_flips(row['sign_flips'], top_k)}. All tokens, however weak, are in {agreement_words(row['spearman'])} "
        f"(rank correlation {number(row['spearman'], 2)}). {_noise_words(noise)}"
    )
    return _light(colour, words, told)


def headline(answer: Light, reasons: Light) -> str:
    """Both lights in one sentence."""
    joint = "but" if (answer.colour == "red") != (reasons.colour == "red") else "and"
    words = answer.words.split(",", maxsplit=1)[0]
    return f"{words.capitalize()}, {joint} {reasons.words}."


def bounds_words(top_k: int) -> str:
    """The bounds of the lights."""
    needed = -(-2 * top_k // 3)
    return (
        f"Answer: green when both models find the same token likeliest and are at most {LITTLE_KL:g} nats apart, "
        f"orange when only the token is the same. Reasons: green while at most {percent(LITTLE_MOVED)} of the weight "
        f"has moved and at least {needed} of the {top_k} strongest tokens are the same, or where another draw of the "
        f"full model's own map moves as much; orange up to {percent(MUCH_MOVED)}. Otherwise red. The bounds are rules "
        "of thumb."
    )


def _flips(count: int, top_k: int) -> str:
    whose = "its" if count == 1 else "their"
    return f"{count or 'none'} of the full model's strongest {top_k} changed {whose} sign"


def _noise_words(noise: float) -> str:
    if not noise:
        return "The method has no chance in it: the full model's own map would not move."
    return f"Between two draws of the full model's own map {percent(noise)} moves."
