"""The part "Which map to believe": maps held against what the model does, against each other, against marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from workbench.figures.attribution import RANDOM, method_agreement, removal_curves
from workbench.figures.frames import keep
from workbench.ui import controls, present
from workbench.ui.attribution_verdict import (
    GROUPS,
    METRICS,
    PLAUSIBLE,
    Rows,
    baseline_sentence,
    verdict_sentences,
    verdict_table,
)
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown
from workbench.ui.token_lists import read_tokens

MODELS = {"full": "full precision", "quantized": "quantized"}
MEASURES = {"target": "what is explained", "logprob": "log-probability of the token", "prob": "its probability"}
AGREEMENTS = {"spearman": "rank correlation", "top_k_overlap": "same top tokens", "aiou": "overlap of the sizes"}
CURVES = {
    "deletion": ("Deletion: the top tokens go first", "tokens replaced, %", "A good map falls fast."),
    "insertion": ("Insertion: the top tokens come first", "tokens put back, %", "A good map rises fast."),
}


@dataclass(frozen=True)
class Trial:
    """What maps are held against.

    Attributes:
        model: `full` or `quantized`.
        measure: what the curves follow.
        group: next tokens that belong together, with the one that is explained.
        other_group: those of the group against it.
        checks: also shuffled weights, the least likely token and other baselines.
    """

    model: str
    measure: str
    group: tuple[str, ...]
    other_group: tuple[str, ...]
    checks: bool


def trial_choice() -> Trial:
    """Draw the choices of the trial."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        model = controls.segments("Model on trial", list(MODELS), "full", key="trial-model", show=MODELS.__getitem__)
        measure = controls.select("Curves follow", list(MEASURES), key="follow", show=MEASURES.__getitem__, width=260)
        checks = controls.toggle(
            "Shuffled weights and baselines too",
            True,
            key="checks",
            help="Each method is run twice more, integrated gradients from three baselines.",
        )
    with st.expander("Groups of next tokens (RFxG)"):
        st.caption("Does a map tell why this word, or only why a word of this kind?")
        left, right = st.columns(2)
        with left:
            group = controls.line(
                "Group A", key="group-a", placeholder='" dog", " cat"', help="Next tokens that belong together."
            )
        with right:
            other = controls.line("Group B", key="group-b", placeholder='" house"', help="Those against group A.")
    return Trial(model, measure, tuple(read_tokens(group)), tuple(read_tokens(other)), checks)


def draw(shown: Shown) -> None:
    """Everything that the study `compare_attribution` found."""
    document = shown.document
    for sentence in verdict_sentences(document):
        st.write(markdown(sentence))
    for one in document["refused"]:
        st.info(markdown(f"{one['name']} is left out: {one['reason']}"), icon=":material/block:")
    _draw_table(document["methods"], METRICS, "verdict", "Every metric, and which direction is good")
    _draw_table(document["methods"], GROUPS, "groups", "Groups of next tokens (RFxG)")
    _draw_curves(shown)
    _draw_agreement(shown)
    _draw_marks(document["methods"])
    told = baseline_sentence(document["baseline_sensitivity"])
    if told:
        st.markdown("**Does the baseline matter?**")
        st.write(markdown(told))
        table = shown.tables["baselines"]
        present.table(table, key="trial-baselines", file_name="baselines.csv", label="Every two baselines")
    st.caption(markdown(" ".join(f"{note}." if not note.endswith(".") else note for note in document["notes"])))


def _draw_table(methods: Sequence[Mapping[str, Any]], rows: Rows, key: str, label: str) -> None:
    frame = verdict_table(methods, rows)
    if frame.empty:
        return
    present.table(
        frame,
        key=f"trial-{key}",
        file_name=f"attribution-{key}.csv",
        label=label,
        expanded=True,
        formats=dict.fromkeys((str(one["name"]) for one in methods), "%.3g"),
    )


def _draw_curves(shown: Shown) -> None:
    """Deletion and insertion side by side."""
    frame, document = shown.tables["curves"], shown.document
    unit = MEASURES[document["removal"]["measure"]]
    for column, (curve, (title, removed, good)) in zip(st.columns(2, gap="large"), CURVES.items(), strict=True):
        part = keep(frame, frame["curve"] == curve).reset_index(drop=True)
        best = max(document["methods"], key=lambda one, curve=curve: one[f"{curve}_z"] or 0.0)
        with column:
            st.markdown(f"**{title}**")
            st.caption(
                f"{good} Grey: random orders. A token that goes is replaced ({document['removal']['replaced_by']})."
            )
            present.chart(
                drawing(removal_curves, part, unit=unit, removed=removed),
                alt=f"{title}, {plural(len(document['methods']), 'method')} and {RANDOM} orders. Farthest from random: "
                f"{best['name']} with an area of {number(best[f'{curve}_auc'])}, z {number(best[f'{curve}_z'], 2)}.",
                key=f"trial-{curve}",
                table_of=part.drop(columns="curve"),
                file_name=f"{curve}.csv",
            )


def _draw_agreement(shown: Shown) -> None:
    """Every two methods, and why that is no proof."""
    names, pairs = shown.document["names"], shown.tables["agreement"]
    if len(names) < 2:
        return
    st.markdown("**Do the methods agree?**")
    st.write(
        "Agreement is not faithfulness: methods that find the same cause may order the rest differently, and methods "
        "that agree may be wrong together."
    )
    value = controls.segments(
        "Agreement by", list(AGREEMENTS), "spearman", key="agree-maps", show=AGREEMENTS.__getitem__
    )
    others = keep(pairs, pairs["method"] < pairs["other"]).dropna(subset=value)
    told = "" if others.empty else f"; from {number(min(others[value]), 2)} to {number(max(others[value]), 2)}"
    present.chart(
        drawing(method_agreement, pairs, names, value=value, unit=AGREEMENTS[value]),
        alt=f"{AGREEMENTS[value].capitalize()} of every two of {plural(len(names), 'method')}{told}.",
        key="trial-agreement",
        table_of=pairs,
        file_name="attribution-agreement.csv",
    )


def _draw_marks(methods: Sequence[Mapping[str, Any]]) -> None:
    """How far maps mark what a person marked; kept apart from what the model does."""
    if not any(one["plausibility"] for one in methods):
        return
    st.markdown("**Do the maps mark what you marked?**")
    st.write(
        "Plausibility says whether a map looks right to a person, not whether the model works that way. A map can be "
        "faithful and implausible: then the model has reasons that one would not expect."
    )
    _draw_table(methods, PLAUSIBLE, "plausibility", "Maps against your marks")
    best = max(methods, key=lambda one: (one["plausibility"] or {}).get("auprc") or 0.0)
    st.caption(markdown(f"Closest to your marks: {best['name']}, {percent(best['plausibility']['auprc'])}."))
