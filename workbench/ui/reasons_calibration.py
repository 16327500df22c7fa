"""From blame to calibration: passages go in front of a calibration text, and the question is asked again with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui import added_texts, address, choices, controls, defaults, reasons_blame, session, study, traits
from workbench.ui.defaults import Spec, Texts
from workbench.ui.escape import markdown
from workbench.ui.numbers import plural
from workbench.ui.study import Shown
from workbench.ui.tokens import Span

COPIES = 16
"""Times that a passage is put in at first: a few hundred of the thousands of tokens that quantizers read."""

READER = "gptq"
"""The quantizer that is offered where the chosen one reads no text."""

MADE, REFUSED = "added-text", "added-text-refused"
WAYS = {"prompt": "the whole prompt", "sentences": "the sentences with the worst tokens", "span": "the chosen tokens"}


def section(blamed: Shown, span: Span | None, scheme: Spec) -> None:
    """Draw what can be added, the button, and what was made of it."""
    document = blamed.document
    shown = str(st.session_state["calibration"])
    about = added_texts.about(shown)
    st.write(
        f"The chosen calibration text is **{markdown(shown)}**"
        + (f", which is {markdown(_made_of(about))}." if about else ".")
        + " Passages are put in front of a copy of it; the text itself stays as it is."
    )
    ways = [way for way in WAYS if way != "span" or span is not None]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        way = controls.segments("Add", ways, "prompt", key="adding", show=WAYS.__getitem__)
        copies = controls.number(
            "Times", COPIES, key="copies", low=1, high=added_texts.COPIES, width=130,
            help="How often each passage is put in. Quantizers read about 8,000 tokens: one copy hardly counts.",
        )  # fmt: skip
    chosen = _passages(document, way, span)
    for one in chosen:
        st.code(one, language=None, wrap_lines=True)
    st.button(
        "Add to the calibration text",
        key="add-text",
        icon=":material/library_add:",
        on_click=_add,
        args=(shown, choices.calibration_choices(choices.model())[shown], chosen, copies),
        disabled=not chosen,
    )
    if not chosen:
        st.caption("No token has a blame above zero, so that there is no sentence to add.")
    refusal = session.recall(REFUSED)
    if refusal:
        st.error(markdown(refusal))
    _draw_made(shown)
    _draw_reader(scheme)


def _passages(document: Spec, way: str, span: Span | None) -> list[str]:
    prompt, tokens = document["prompt"], document["tokens"]
    if way == "span" and span is not None:
        return [reasons_blame.passage(prompt, tokens, span)]
    if way == "sentences":
        return reasons_blame.passages(prompt, tokens, document["scores"])
    return [prompt.strip()]


def _made_of(about: added_texts.Added) -> str:
    return f"{about.base} with {plural(len(about.passages), 'passage')} in front, {plural(about.copies, 'time')} each"


def _add(shown: str, name: str, passages: Sequence[str], copies: int) -> None:
    session.remember(REFUSED, None)
    try:
        session.remember(MADE, added_texts.add(shown, name, passages, copies))
    except WorkbenchError as error:
        session.remember(REFUSED, str(error))


def _draw_made(current: str) -> None:
    """The text that was made last, or is chosen: what is in it, and what can be done with it."""
    made = session.recall(MADE)
    name = current if added_texts.about(current) else made
    about = None if name is None else added_texts.about(name)
    if name is None or about is None:
        return
    with st.container(border=True):
        st.write(f"**{markdown(name)}** is {markdown(_made_of(about))}. It can be chosen in the sidebar on every page.")
        with st.container(horizontal=True, gap="small"):
            st.button(
                "In use" if name == current else "Use it and run again",
                key="use-text",
                type="primary",
                icon=":material/replay:",
                on_click=address.put,
                args=("calibration", name),
                disabled=name == current,
            )
            path = Path(added_texts.offered()[name])
            st.download_button(
                "Download", path.read_bytes, path.name, "application/json", key="text-download", on_click="ignore",
                icon=":material/download:",
            )  # fmt: skip
            st.button("Remove", key="remove-text", icon=":material/delete:", on_click=_remove, args=(name,))
        with st.expander(f"What was added ({plural(len(about.passages), 'passage')})"):
            for one in about.passages:
                st.code(one, language=None, wrap_lines=True)


def _remove(name: str) -> None:
    """Delete a text that was made here; where it is in use, the text that it was made of takes its place."""
    about = added_texts.about(name)
    added_texts.remove(name)
    session.remember(MADE, None)
    if about is not None and st.session_state.get("calibration") == name:
        address.put("calibration", about.base)


def _draw_reader(scheme: Spec) -> None:
    """Say where the quantizer reads no text, so that no text can change what it gives."""
    known = session.descriptions("quantizers")
    if traits.reads_text(known[scheme["quantizer"]]):
        return
    st.info(
        f"{markdown(scheme['quantizer'])} looks at the weights alone: a calibration text changes nothing for it.",
        icon=":material/info:",
    )
    if READER in known:
        st.button(f"Quantize with {READER}, which reads it", key="use-reader", on_click=address.put,
                  args=("quantizer", READER))  # fmt: skip


def closing(model: str, prompt: str, blamed: Shown, scheme: Spec, texts: Texts) -> None:
    """With an added text in use: ask for the blame with the text it was made of, and draw both."""
    shown = str(st.session_state["calibration"])
    about, offered = added_texts.about(shown), choices.calibration_choices(model)
    reads = traits.reads_text(session.descriptions("quantizers")[scheme["quantizer"]])
    if about is None or about.base not in offered or not reads or blamed.stale:
        return
    st.markdown("**What the added text changed**")
    plain = Texts(offered[about.base], texts.text, texts.tokens, texts.window)
    question = defaults.blame(model, prompt, scheme=scheme, texts=plain)
    before = study.study(*question, label="the blame with the text as it was", slot="blame-before", auto=True)
    if before and not before.stale:
        with before:
            reasons_blame.draw_change(before, blamed)
