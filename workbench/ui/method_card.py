"""The card of a quantizer: what it does, its formula, where it comes from, what is ours, and what it stored here."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

import pandas as pd
import streamlit as st

from workbench.figures.frames import keep
from workbench.ui import choices, present, traits
from workbench.ui.defaults import Spec
from workbench.ui.escape import markdown
from workbench.ui.layer_error import quantizer_of


def section(quantizers: Sequence[str], frame: pd.DataFrame | None, chosen: str | None) -> None:
    """Draw a card a quantizer, one tab each.

    Args:
        quantizers: names, in the order of the tabs.
        frame: table `layer_error` where it is known, for the bits that were stored.
        chosen: the label in it whose quantizer's card is open at first.
    """
    st.subheader("The methods")
    names = [markdown(name) for name in quantizers]
    open_first = None if frame is None or chosen is None else quantizer_of(frame, chosen)
    first = markdown(open_first) if open_first in quantizers else names[0]
    for name, tab in zip(quantizers, st.tabs(names, default=first), strict=True):
        with tab:
            card(choices.described("quantizers", name), _sizes(frame, name))


def card(described: Spec, sizes: pd.DataFrame | None = None) -> None:
    """Draw one card; `sizes` as of `measured_sizes`."""
    name, said = described["name"], described["traits"]
    with st.container(border=True, key=f"card-{name}"):
        st.markdown(f"**{markdown(name)}** {markdown(described['summary'])}")
        if said.get("formula"):
            st.latex(said["formula"])
        facts = {
            "Takes": traits.in_words(described),
            "Looks at": f"one {said.get('scope', 'matrix')} at a time" if said.get("scope") != "model" else "the model",
            "Paper": described["reference"],
            "What is ours": said.get("ours") or "Nothing.",
            "Note": described["note"],
            "Cost": described["cost"],
        }
        st.markdown("\n".join(f"- **{title}:** {markdown(text)}" for title, text in facts.items() if text))
        if sizes is not None and len(sizes):
            st.markdown("**Bits a weight, as measured here**")
            st.dataframe(sizes, hide_index=True, width="content", column_config=present.columns(sizes, FORMATS))


FORMATS = {"nominal_bits": "%.3f", "stored_bits": "%.3f"}


def _sizes(frame: pd.DataFrame | None, quantizer: str) -> pd.DataFrame | None:
    return None if frame is None else measured_sizes(keep(frame, frame["quantizer"] == quantizer))


def measured_sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a label: nominal and stored bits a weight, the mean over matrices weighted by their parameters."""
    held = []
    for label, part in frame.groupby("label", sort=False):
        counts = part["parameters"].tolist()
        weighed = {name: sum(map(mul, part[name].tolist(), counts)) / sum(counts) for name in FORMATS}
        held.append({"label": label, **weighed})
    return pd.DataFrame(held, columns=["label", *FORMATS])
