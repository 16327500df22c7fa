"""What an attribution explains: the next token, several of them, or tokens of the text; and as a turn of a chat."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from workbench import settings
from workbench.ui import address, choices, controls, encoder_target
from workbench.ui.attribution_spans import spans_choice, written
from workbench.ui.defaults import DEMO, Explained, Spec
from workbench.ui.escape import markdown, visible
from workbench.ui.numbers import percent
from workbench.ui.study import Shown
from workbench.ui.token_lists import quoted, read_tokens

SUGGESTED = 6
SUGGESTIONS, EXPLAIN, CHAT = "suggested-target", "explain", "chat"

OUTPUTS = {
    "logprob": "log-probability",
    "logit": "logit (raw score)",
    "prob": "probability",
    "group": "a group of next tokens",
    "continuation": "a continuation",
    "attentiveness": "answer options together",
    "entropy": "hesitation (entropy)",
    "kl": "distance from the full model (KL)",
}
"""What is measured, as the study calls it -> as it is shown."""

LISTS, WHOLE = ("group", "attentiveness"), ("entropy", "kl")
"""Kinds that take several tokens, and kinds that take none."""

LABELS = {
    "group": ("Tokens of the group", '" dog", " cat"', "Their summed probability. Quotation marks keep blanks."),
    "continuation": ("Text that follows", " ball to her friend", "The log-probabilities of all its tokens, summed."),
    "attentiveness": ("Answer options", '"yes", "no"', "How likely the model answers with one of them at all."),
}
TOKEN = (
    "Next token to explain",
    "the one the model expects most",
    "A word with its leading space, or id: and a token id. Empty: the model's own likeliest next token.",
)
NONE = ("Next token to explain", "all of them at once", "This is a property of the whole prediction.")


def target_choice() -> Explained:
    """Draw what is to be explained."""
    encoder = encoder_target.kind_of(choices.model())
    if encoder is not None:
        return encoder_target.target_choice(encoder)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        kind = controls.select(
            "Measured as",
            list(OUTPUTS),
            key="output",
            show=OUTPUTS.__getitem__,
            help="What of the model's prediction is explained.",
            width=190,
        )
        label, placeholder, told = NONE if kind in WHOLE else LABELS.get(kind, TOKEN)
        text = controls.line(label, key="target", placeholder=placeholder, help=told, disabled=kind in WHOLE, width=220)
        contrast = controls.line(
            "Rather than (contrast)",
            key="contrast",
            placeholder="nothing",
            help="Explains why the first rather than this. Empty: no contrast.",
            disabled=kind in (*WHOLE, "attentiveness"),
            width=195,
        )
        spans = spans_choice(
            "Or tokens of the text",
            key=EXPLAIN,
            placeholder="what follows",
            help="Numbers of tokens, such as 5-7: what made the model write them, given those before. Or choose tokens "
            "in a strip.",
            width=165,
        )
    chat = _chat_choice()
    if spans:
        return _of_tokens(spans[0], contrast, chat)
    if kind in WHOLE:
        return Explained(f"{kind}:", chat=chat)
    if kind in LISTS:
        held = _listed(contrast) if contrast and kind == "group" else None
        return Explained(f"{kind}:{_listed(text)}", held, chat=chat)
    return Explained(f"{kind}:{text}", contrast or None, chat=chat)


def _of_tokens(span: tuple[int, int], contrast: str, chat: bool) -> Explained:
    """The choice of tokens of the text, and the way back from it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Explained: token {written(span)} of the text, given those before; what comes later is left out.")
        st.button(
            "Explain what follows the prompt",
            key="explain-next",
            icon=":material/undo:",
            type="tertiary",
            on_click=address.put,
            args=(EXPLAIN, ""),
        )
    return Explained("continuation:", contrast or None, span, chat)


def _chat_choice() -> bool:
    """Draw the switch for a chat, where the model's tokenizer knows how a turn is written."""
    if not has_template(choices.model()):
        return False
    return controls.toggle(
        "As a chat", key=CHAT, help="The prompt is the user's turn; the words of the template around it are held fixed."
    )


def has_template(model: str) -> bool:
    """Whether the files of a model's tokenizer hold a chat template."""
    folder = settings.demo_folder() if model == DEMO else settings.local_models().get(model)
    if folder is None:
        return False
    return (folder / "chat_template.jinja").is_file() or bool(_configured(folder / "tokenizer_config.json"))


def _configured(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None


def _listed(text: str) -> str:
    """Tokens as the study reads a list of them."""
    return json.dumps(read_tokens(text), ensure_ascii=False)


def choices_of(spec: Spec) -> Iterator[tuple[str, Any]]:
    """The controls' keys and values that lead to what a spec explains."""
    kind, text = _split(spec["target"] or "")
    contrast, span = spec["contrast"] or "", spec.get("explain")
    yield "output", "logprob" if span else kind
    yield "target", quoted(json.loads(text)) if kind in LISTS else text
    yield "contrast", quoted(json.loads(contrast)) if kind in LISTS and contrast else contrast
    yield EXPLAIN, written((span[0], span[1])) if span else ""
    yield CHAT, bool(spec.get("chat"))
    yield encoder_target.SECOND, spec.get("second") or ""


def _split(target: str) -> tuple[str, str]:
    kind = next((name for name in OUTPUTS if target.startswith(f"{name}:")), None)
    return ("logit", target) if kind is None else (kind, target.removeprefix(f"{kind}:"))


def suggest_from(maps: Mapping[str, Shown]) -> None:
    """Offer what the first of some maps knows of the next token; nothing where there is none yet."""
    for shown in list(maps.values())[:1]:
        suggest(shown.document)


def suggest(document: Mapping[str, Any]) -> None:
    """Offer the likeliest next tokens of an attribution's document as targets, with their probabilities."""
    if document.get(EXPLAIN):
        return
    likely = [one for one in document["top"][:SUGGESTED] if one["logprob"] is not None]
    if not likely:  # a bare encoder predicts nothing
        return
    shares = {one["token"]: percent(math.exp(one["logprob"])) for one in likely}
    st.pills(
        "The model expects",
        list(shares),
        format_func=lambda token: markdown(f"{visible(token)}  {shares[token]}"),
        key=SUGGESTIONS,
        on_change=_take_suggestion,
        help="Choose one to explain it.",
    )


def _take_suggestion() -> None:
    token, kind = st.session_state[SUGGESTIONS], st.session_state.get("output")
    if token is None:
        return
    if kind in LISTS:
        held = read_tokens(st.session_state.get("target", ""))
        address.put("target", quoted([*held, token]))
    else:
        address.put("target", token)
    if kind in WHOLE:
        address.put("output", "logprob")
    st.session_state[SUGGESTIONS] = None
