"""What an attribution explains where the model is an encoder: a class of a classifier, or the closeness to a text."""

from __future__ import annotations

import json
from typing import Literal

import streamlit as st

from workbench import settings
from workbench.ui import controls
from workbench.ui.defaults import DEMO, Explained

SECOND, POOLING = "second", "pooling"
CLASSIFIER = "ForSequenceClassification"
HEADS = ("CausalLM", "LMHeadModel", "ConditionalGeneration", "MaskedLM", "TokenClassification", "QuestionAnswering")
OUTPUTS = {"logit": "logit (raw score)", "logprob": "log-probability", "prob": "probability"}
POOLINGS = {"": "as the model's folder says", "mean": "mean of all tokens", "cls": "the first token"}
OTHER_TEXT = "A child plays outside with a ball."
"""What a text is compared with until another one is written."""

Kind = Literal["classifier", "bare"]

QUESTIONS: dict[Kind | None, tuple[str, str]] = {
    None: (
        "Which words drive the next word?",
        "A language model reads a prompt and predicts the next token, a word or a piece of one. Here every token of "
        "the prompt gets a score: how much it pushes the model towards one prediction. Below, the same for the model "
        "with fewer bits: same answer, same reasons? And how far these scores can be believed.",
    ),
    "classifier": (
        "Which words drive the class?",
        "A classifier reads a text and decides what kind it is. Here every token gets a score: how much it pushes the "
        "model towards one class. Below, the same for the model with fewer bits, and how far the scores can be "
        "believed.",
    ),
    "bare": (
        "Which words make two texts alike?",
        "An encoder turns a text into a vector, and two texts are alike when their vectors point the same way. Here "
        "every token of the prompt gets a score: how much it brings the two together. Below, the same for the model "
        "with fewer bits, and how far the scores can be believed.",
    ),
}
"""What the page asks of a kind of model, and what that means."""


def kind_of(model: str) -> Kind | None:
    """Whether a model's folder holds a classifier of texts or a bare encoder; None for language models.

    Told by the class that its configuration names; what is no readable folder is left to the study to refuse.
    """
    folder = settings.demo_folder() if model == DEMO else settings.local_models().get(model)
    try:
        named = (
            json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") if folder else None
        )
    except (OSError, ValueError, AttributeError):
        return None
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        return None
    if named[0].endswith(CLASSIFIER):
        return "classifier"
    return "bare" if named[0].endswith("Model") and not named[0].endswith(HEADS) else None


def target_choice(kind: Kind) -> Explained:
    """Draw what is to be explained of an encoder."""
    if kind == "bare":
        return _closeness()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        output = controls.select("Measured as", list(OUTPUTS), key="output", show=OUTPUTS.__getitem__, width=190)
        told = "Its name, or id: and its number. Empty: the class that the model finds likeliest."
        name = controls.line("Class to explain", key="target", placeholder="the model's own", help=told, width=220)
        rather = controls.line("Rather than (contrast)", key="contrast", placeholder="no other class", width=195)
        second = controls.line("Second text of a pair", key=SECOND, placeholder="none", width=300)
    return Explained(f"{output}:{name}", rather or None, second=second or None)


def _closeness() -> Explained:
    """The cosine of two texts' vectors, or the difference of two cosines."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        told = "Explained is how close the prompt lies to this text: the cosine of their vectors."
        second = controls.line("Compared with", OTHER_TEXT, key=SECOND, help=told, width=300)
        rather = controls.line("Rather than with (contrast)", key="contrast", placeholder="no other text", width=300)
        pooling = controls.select("A text's vector", list(POOLINGS), key=POOLING, show=POOLINGS.__getitem__, width=230)
    return Explained(pooling or None, rather or None, second=second or OTHER_TEXT)
