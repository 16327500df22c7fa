"""What an attribution explains: the controls for the next token, and the likeliest ones as suggestions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from workbench.ui import address, controls
from workbench.ui.defaults import Explained
from workbench.ui.escape import markdown, visible
from workbench.ui.numbers import percent

SUGGESTED = 6
SUGGESTIONS = "suggested-target"

OUTPUTS = {"logprob": "log-probability", "logit": "logit (raw score)"}
"""What is measured of the token, as the study calls it -> as it is shown."""


def target_choice() -> Explained:
    """Draw what is to be explained."""
    left, middle, right = st.columns([2, 1, 2], vertical_alignment="bottom")
    with left:
        text = controls.line(
            "Next token to explain",
            key="target",
            placeholder="the one the model expects most",
            help="A word with its leading space, or id: and a token id. Empty: the model's own likeliest next token.",
        )
    with middle:
        measured = controls.select("Measured as", list(OUTPUTS), key="output", show=OUTPUTS.__getitem__)
    with right:
        contrast = controls.line(
            "Rather than (contrast)",
            key="contrast",
            placeholder="nothing",
            help="Explains why the first token rather than this one. Empty: no contrast.",
        )
    return f"{measured}:{text}", contrast or None


def suggest(document: Mapping[str, Any]) -> None:
    """Offer the likeliest next tokens of an attribution's document as targets, with their probabilities."""
    shares = {one["token"]: percent(math.exp(one["logprob"])) for one in document["top"][:SUGGESTED]}
    st.pills(
        "The model expects",
        list(shares),
        format_func=lambda token: markdown(f"{visible(token)}  {shares[token]}"),
        key=SUGGESTIONS,
        on_change=_take_suggestion,
        help="Choose one to explain it.",
    )


def _take_suggestion() -> None:
    token = st.session_state[SUGGESTIONS]
    if token is not None:
        address.put("target", token)
        st.session_state[SUGGESTIONS] = None
