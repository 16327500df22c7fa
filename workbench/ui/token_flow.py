"""The part "Which weights carry a token": groups of weights by what passes through them, beside their rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.labels import block_name, role_labels
from workbench.figures.token_flow import group_bars
from workbench.ui import controls, defaults, present, study
from workbench.ui.defaults import Explained, Spec, Texts
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, visible
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown

ABOUT = (
    "At each token, the weights pass on what the model has made of the text so far. With norms, attention and gates "
    "held as they are at this prompt, what each group of weights passes on towards the explained token is exact, and "
    "can be ranked."
)
LABEL = "the flow through the weights"


def section(model: str, prompt: str, explained: Explained, scheme: Spec, texts: Texts) -> None:
    """Draw the section: the choice of the token, the state of its study and what it found."""
    st.subheader("Which weights carry a token?")
    st.write(ABOUT)
    asked = {"explained": explained, "scheme": scheme, "texts": texts}
    above = st.container()  # a result has its place where it is asked for, and the choice of the token needs one
    last = study.study(*defaults.token_flow(model, prompt, **asked), label=LABEL, slot="flow", auto=True)
    if last is None:
        return
    tokens = last.document["tokens"]
    with above:
        place = controls.select(
            "Token that is passed through",
            list(range(len(tokens))),
            len(tokens) - 1,
            key="flow_token",
            show=lambda one: f"{one + 1}: {visible(tokens[one])}",
            width=260,
            help="The prediction is made at the last one; at earlier ones, what later tokens take from them is seen.",
        )
    shown = last
    if place != len(tokens) - 1:
        question = defaults.token_flow(model, prompt, position=place, **asked)
        shown = study.study(*question, label=LABEL, slot="flow-token", auto=True)
    if shown:
        with shown:
            draw(shown)


def draw(shown: Shown) -> None:
    """The leading groups in a sentence, as bars and as a table; all groups to be downloaded."""
    document, frame = shown.document, shown.tables["flow"]
    top = labelled(document["top"], frame)
    st.write(flow_sentence(document, top))
    first = top.head(1).to_dict("records")[0]
    columns = ["label", "flow", "flow_lost", "group_output", "group_error", "group_relative_error", "matrix"]
    present.chart(
        drawing(group_bars, top, unit=str(document["target"]["label"])),
        alt=f"What {plural(len(top), 'group')} of weights carry at token {document['position'] + 1}. Most: "
        f"{first['label']}, {number(first['flow'], sign=True)}.",
        key="flow-bars",
        table_of=pd.DataFrame(top, columns=columns).rename(columns={"label": "group"}),
        file_name="token-flow.csv",
    )
    present.table(frame, key="flow-table", file_name="token-flow-all.csv", label="All groups of weights as a table")
    for note in document["notes"]:
        st.caption(markdown(note))


def labelled(top: Sequence[Mapping[str, Any]], frame: pd.DataFrame) -> pd.DataFrame:
    """The leading groups with a name each, such as `block 3 down_proj, inputs from 64`; unknown numbers are NaN."""
    matrices = frame.drop_duplicates("matrix").reset_index(drop=True)
    roles = dict(zip(matrices["matrix"], role_labels(matrices), strict=True))
    several = set(frame["matrix"][frame["group"] > 0])
    labels = [
        f"block {block_name(one['block'])} {roles[one['matrix']]}"
        + (f", inputs from {one['input']}" if one["matrix"] in several else "")
        for one in top
    ]
    held = pd.DataFrame(list(top)).assign(label=labels)
    numbers = ["flow", "flow_lost", "group_output", "group_error", "group_relative_error"]
    return held.astype(dict.fromkeys(numbers, "float64"))


def flow_sentence(document: Mapping[str, Any], top: pd.DataFrame) -> str:
    """Which group carries most, how much the leading ones have, and which of them rounding hits; safe in Markdown."""
    first = top.head(1).to_dict("records")[0]
    token = f"“{markdown(visible(document['tokens'][document['position']]))}”"
    told = (
        f"At {token} (token {document['position'] + 1}), **{markdown(first['label'])}** carries most: "
        f"{number(first['flow'], sign=True)} of the {markdown(document['target']['label'])}. The {len(top)} strongest "
        f"of {plural(document['groups'], 'group')} hold {percent(document['top_share'])} of all that is carried, with "
        "and against."
    )
    if all(pd.isna(lost) for lost in top["flow_lost"]):
        return told
    hit = top.assign(size=top["flow_lost"].abs()).sort_values("size", ascending=False).head(1).to_dict("records")[0]
    verb = "takes" if hit["flow_lost"] > 0 else "adds"
    return (
        f"{told} Rounding changes most at **{markdown(hit['label'])}**: to first order it {verb} "
        f"{number(abs(hit['flow_lost']))}; the error is {percent(hit['group_relative_error'])} of the group's output."
    )
