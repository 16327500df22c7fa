"""The part "How sure is each score": scores with error bars, and which methods noise and shuffled weights move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.frames import keep
from workbench.figures.reliability import error_bars, trust_map
from workbench.ui import controls, defaults, present, rows, session, study
from workbench.ui.attribution import numbered
from workbench.ui.defaults import Explained, Spec
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, plotly_text, visible
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown

UNSTEADY = 2.0
"""Scores of less than this many standard deviations are grey and hatched, as the study counts them."""

MOST_TOKENS = 256
"""Tokens that have a bar; of a longer prompt, the last ones."""

ABOUT = (
    "The weights are rounded up or down by chance, several times, and the map is made anew each time. On average this "
    "rounding is right, so that what moves is noise: the bars show its size. A token is grey and hatched when noise "
    "alone could have made its score."
)


def section(
    model: str, prompt: str, explained: Explained, method: str, options: Mapping[str, Any], scheme: Spec
) -> None:
    """Draw the section: its controls, the state of its study and what it found."""
    st.subheader("How sure is each score?")
    st.write(ABOUT)
    methods, bits, draws = _choices(method)
    asked = {name: options if name == method else {} for name in methods}
    question = defaults.reliability(
        model, prompt, explained=explained, methods=asked, bits=bits, draws=draws, scheme=scheme
    )
    maps = plural(len(methods) * (draws + 4), "map")
    shown = study.study(
        *question,
        label="the error bars",
        slot="reliability",
        estimate=f"about {maps}: seconds for quick methods of a small model, minutes for others",
    )
    if shown:
        with shown:
            draw(shown)


def _choices(method: str) -> tuple[list[str], int, int]:
    known = list(session.descriptions("attribution"))
    first = [name for name in dict.fromkeys([method, *defaults.DRIFT_METHODS]) if name in known]
    methods = controls.several(
        "Methods", known, first, key="shaken", help="All of them see the same noise, each with its default options."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        bits = controls.segments(
            "Noise of", defaults.WIDTHS, defaults.NOISE_BITS, key="noise_bits", show=lambda one: f"{one} bits",
            help="The noise has the size of the steps of that width.",
        )  # fmt: skip
        draws = controls.number("Draws", defaults.DRAWS, key="draws", low=2, high=32, width=140)
    return methods, bits, draws


def draw(shown: Shown) -> None:
    """The outputs in a sentence, one method's scores with error bars, all methods beside each other."""
    document, frame = shown.document, shown.tables["methods"]
    st.write(output_sentence(document))
    names = [str(name) for name in frame["method"]]
    name = controls.segments("Error bars of", names, names[0], key="shaken_method") if len(names) > 1 else names[0]
    _draw_bars(shown, rows.named(frame, "method", name))
    for one in document["refused"]:
        st.info(f"{markdown(one['name'])} is left out: {markdown(one['reason'])}")
    if len(names) > 1:
        st.markdown("**Which methods to trust here**")
        _draw_methods(frame)


def output_sentence(document: Mapping[str, Any]) -> str:
    """What the noise does to the answer, so that a map that moves can be judged; safe in Markdown."""
    draws, same = document["draws"], round(document["same_answer"] * document["draws"])
    answer = f"“{markdown(visible(document['full_answer']))}”"
    return (
        f"With noise of {plural(document['bits'], 'bit')}, {same} of {plural(draws, 'draw')} keep the answer {answer}; "
        f"the prediction moves by {number(document['kl_mean'])} nats on average (KL to the full model)."
    )


def _draw_bars(shown: Shown, method: rows.Row) -> None:
    document, name = shown.document, str(method["method"])
    tokens = keep(shown.tables["tokens"], shown.tables["tokens"]["method"] == name).reset_index(drop=True)
    compared = next(one["compared"] for one in document["methods"] if one["name"] == name)
    st.write(steady_sentence(method, len(compared)))
    drawn = tokens.tail(MOST_TOKENS)
    if len(drawn) < len(tokens):
        st.caption(f"The last {len(drawn)} of {len(tokens)} tokens are drawn; the table has all of them.")
    steady = [not snr < UNSTEADY for snr in drawn["snr"]]
    held = drawn.assign(label=drawn["token"].map(plotly_text), steady=steady)
    strongest = rows.largest(tokens.assign(size=tokens["mean_score"].abs()), "size")
    present.chart(
        drawing(error_bars, held, unit=f"score by {name}, mean of draws"),
        alt=f"Scores of {plural(len(drawn), 'token')} by {name} with error bars; {int(method['unsteady'])} are "
        f"unsteady. The strongest is token {int(strongest['position']) + 1}, {number(strongest['mean_score'])} with a "
        f"standard deviation of {number(strongest['score_sd'])}.",
        key="error-bars",
        table_of=numbered(tokens.drop(columns="method")),
        file_name="error-bars.csv",
    )


def steady_sentence(method: rows.Row, compared: int) -> str:
    """How many scores stand, how large they are beside their noise, and whether the order holds; safe in Markdown."""
    name = f"**{markdown(method['method'])}**"
    if pd.isna(method["snr_median"]):
        return f"By {name} no score moves at all: the map does not depend on these weights."
    order = ""
    if not pd.isna(method["rank_stability"]):
        order = f" The orders of two draws agree to {number(method['rank_stability'], 2)} (rank correlation)."
    return (
        f"By {name}, {int(method['unsteady'])} of {plural(compared, 'token')} are unsteady: their score is below twice "
        f"its standard deviation. The median score is {number(method['snr_median'], 2)} times its own.{order}"
    )


def _draw_methods(frame: pd.DataFrame) -> None:
    known = keep(frame, frame["fragility"].notna() & frame["blindness"].notna()).reset_index(drop=True)
    if not len(known):
        st.info("No draw keeps the answer, so that a map that moves is no sign of a fragile method: take more bits.")
        present.table(frame, key="trust-table", file_name="methods.csv", label="What was measured of each method")
        return
    fragile, blind = rows.largest(known, "fragility"), rows.largest(known, "blindness")
    st.write(
        f"Most fragile is **{markdown(fragile['method'])}**: noise that keeps the answer takes "
        f"{number(fragile['fragility'], 2)} from the agreement of its order with the full model's. Most blind is "
        f"**{markdown(blind['method'])}**: of its order, {percent(max(0.0, blind['blindness']))} is left when all "
        "weights are shuffled. Both are best near zero."
    )
    present.chart(
        drawing(trust_map, known),
        alt=f"{plural(len(known), 'method')} by fragility and blindness. Most fragile: {fragile['method']}, "
        f"{number(fragile['fragility'])}. Most blind: {blind['method']}, {number(blind['blindness'])}.",
        key="trust-map",
        table_of=frame,
        file_name="methods.csv",
    )
