"""Attention beside what removing tokens does: the warning that belongs to every map made of attention."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.figures.attribution import attention_against_ablation
from workbench.ui import choices, compare, present
from workbench.ui.attribution import known, numbered
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, plotly_text
from workbench.ui.numbers import number
from workbench.ui.study import Shown

ABLATION = "occlusion"
"""The method that replaces tokens one by one."""


def reads_attention(method: str) -> bool:
    """Whether a method's scores are made of attention, as the method says."""
    return bool(choices.described("attribution", method)["traits"].get("reads_attention"))


def draw(method: str, shown: Shown, ablation: Shown | None) -> None:
    """The warning, and the two maps against each other where the second is there.

    Args:
        method: one that reads attention.
        shown: its map.
        ablation: map of `ABLATION` for the same question.
    """
    st.warning(
        "Attention is not an explanation. It says where the model looks, not what its answer rests on.",
        icon=":material/visibility:",
    )
    if ablation is None or ablation.document["tokens"] != shown.document["tokens"]:
        return
    frame = against(shown, ablation)
    told = words(method, frame)
    st.write(markdown(told))
    drawn = frame.assign(label=frame["token"].map(plotly_text))
    present.chart(
        drawing(attention_against_ablation, drawn),
        alt=f"Score by {method} against what is lost when a token is replaced, {len(frame)} tokens. {told}",
        key=f"ablation-{method}",
        table_of=numbered(frame),
        file_name=f"{method}-against-ablation.csv",
    )


def against(shown: Shown, ablation: Shown) -> pd.DataFrame:
    """Position, token, attention and effect of every token that can be replaced."""
    document = shown.document
    scores = zip(document["tokens"], known(document["scores"]), known(ablation.document["scores"]), strict=True)
    rows = [
        {"position": place, "token": token, "attention": attention, "effect": effect}
        for place, ((token, attention, effect), held) in enumerate(
            zip(scores, ablation.document["held_fixed"], strict=True)
        )
        if not held
    ]
    return pd.DataFrame(rows, columns=["position", "token", "attention", "effect"])


def words(method: str, frame: pd.DataFrame) -> str:
    """How far the two put the tokens in the same order; plain text."""
    agreement = compare.rank_agreement(frame["attention"].tolist(), frame["effect"].abs().tolist())
    count = min(3, len(frame))
    same = compare.top_overlap(frame["attention"].tolist(), frame["effect"].tolist(), count)
    return (
        f"Here {method} and the size of what is lost when a token is replaced put the tokens in "
        f"{compare.agreement_words(agreement)} (Spearman's correlation {number(agreement, 2)}); of the top {count}, "
        f"{same} are the same."
    )
