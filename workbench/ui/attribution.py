"""The parts of the Input attribution page: one model's strip, what quantizing changed, the values of one token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.tokens import compare_tokens
from workbench.ui import compare, present
from workbench.ui.escape import markdown, plotly_text, visible
from workbench.ui.numbers import number, percent
from workbench.ui.study import Shown
from workbench.ui.tokens import token_strip

TOLERANCE = 1e-3
"""Relative gap under which scores count as complete, for methods that have no such option."""


def completeness(document: Mapping[str, Any]) -> str | None:
    """Draw a badge that says whether the scores add up to what they explain, green only within the tolerance.

    Returns:
        The gap in words, None for a method that promises no sum.
    """
    gap = document.get("relative_gap")
    if gap is None:
        st.badge("no promise to add up", icon=":material/horizontal_rule:", color="gray")
        return None
    tolerance = float(document["options"].get("tolerance", TOLERANCE))
    missed = f"the scores miss {percent(gap)} of what they explain"
    if gap <= tolerance:
        st.badge("complete", icon=":material/check:", color="green")
        return f"{missed}, within the tolerance of {percent(tolerance)}"
    st.badge("not complete", icon=":material/warning:", color="orange")
    return f"{missed}, more than the tolerance of {percent(tolerance)}"


def draw_model(shown: Shown, *, name: str, key: str, limit: float) -> int | None:
    """One model's strip with its badge, its value and its notes; returns the chosen token's position."""
    document = shown.document
    with shown:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{markdown(name)}**")
            gap = completeness(document)
        chosen = token_strip(
            document["tokens"],
            document["scores"],
            key=key,
            label=f"Tokens by attribution, {name}",
            limit=limit,
            signed=document["signed"],
            fixed=document["held_fixed"],
        )
        facts = [_value_words(document), *([gap] if gap else []), *document["notes"]]
        st.caption(markdown("; ".join(facts)))
    return chosen


def _value_words(document: Mapping[str, Any]) -> str:
    words = f"{document['target']['label']} = {number(document['value'])}"
    if document["target"]["kind"] == "logprob":
        words += f", a probability of {percent(math.exp(document['value']))}"
    return words


def strip_limit(*results: Shown | None) -> float:
    """The largest magnitude in all results: the common end of their colour scales."""
    return max((abs(score) for one in results if one for score in known(one.document["scores"])), default=0.0)


def known(scores: Sequence[float | None]) -> list[float]:
    """The scores, zero where there is none."""
    return [0.0 if score is None else score for score in scores]


def comparable(full: Shown, quantized: Shown) -> bool:
    """Whether two results are about the same tokens and the choices as they stand."""
    return not (full.stale or quantized.stale) and full.document["tokens"] == quantized.document["tokens"]


def draw_difference(full: Shown, quantized: Shown, *, limit: float) -> int | None:
    """Quantized minus full on the same scale, and the agreement of the two in words and numbers."""
    before, after = known(full.document["scores"]), known(quantized.document["scores"])
    st.markdown("**What quantizing changed** (quantized minus full)")
    chosen = token_strip(
        full.document["tokens"],
        [late - early for early, late in zip(before, after, strict=True)],
        key="strip-difference",
        label="Change of attribution, quantized minus full",
        limit=limit,
        ends=("less than before", "more than before"),
    )
    agreement, count = compare.rank_agreement(before, after), min(3, len(before))
    columns = st.columns(3)
    columns[0].metric(
        "Rank agreement", number(agreement, 2), help="Spearman's correlation: 1 is the same order, 0 is no relation."
    )
    columns[1].metric(f"Same top {count} tokens", f"{compare.top_overlap(before, after, count)} of {count}")
    columns[2].metric("Tokens that changed sign", compare.sign_flips(before, after))
    st.caption(f"The two models put the tokens in {compare.agreement_words(agreement)}.")
    return chosen


def draw_comparison(full: Shown, quantized: Shown) -> None:
    """The chart of both models with its table."""
    frame = comparison(full, quantized)
    place, change = max(enumerate(frame["change"]), key=lambda item: abs(item[1]))
    present.chart(
        compare_tokens(frame.assign(label=frame["token"].map(plotly_text)), unit="score"),
        alt=f"Scores of {len(frame)} tokens in the full and in the quantized model. The largest change is at token "
        f"{place + 1}: {number(change, sign=True)}.",
        key="attribution-chart",
        table_of=numbered(frame),
        file_name="attribution.csv",
    )


def comparison(full: Shown, quantized: Shown) -> pd.DataFrame:
    """Position, token, both scores, their change."""
    before, after = (known(one.document["scores"]) for one in (full, quantized))
    changes = [late - early for early, late in zip(before, after, strict=True)]
    tokens = full.document["tokens"]
    return pd.DataFrame(
        {"position": range(len(tokens)), "token": tokens, "full": before, "quantized": after, "change": changes}
    )


def ranked_tokens(shown: Shown) -> pd.DataFrame:
    """The tokens with their scores, strongest first."""
    return numbered(shown.tables["tokens"].sort_values("score", key=lambda scores: -scores.abs(), kind="stable"))


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of tokens for people: tokens counted from 1, as the strip counts them, and their blanks visible."""
    shown = frame.rename(columns={"position": "token number"}).reset_index(drop=True)
    return shown.assign(**{"token number": shown["token number"] + 1, "token": shown["token"].map(visible)})


def draw_token(position: int, full: Shown, quantized: Shown) -> None:
    """The values of one token in each model."""
    tokens = full.document["tokens"]
    if position >= len(tokens):
        return
    rows = [_token_row(name, one, position) for name, one in (("full precision", full), ("quantized", quantized))]
    st.markdown(f"**Token {position + 1} of {len(tokens)}: “{markdown(visible(tokens[position]))}”**")
    st.table(pd.DataFrame(rows), hide_index=True, border="horizontal", alt="The chosen token in each model")


def _token_row(name: str, shown: Shown, position: int) -> dict[str, str]:
    scores = known(shown.document["scores"])
    strength, total = abs(scores[position]), sum(abs(score) for score in scores)
    return {
        "model": name,
        "score": number(scores[position], sign=True),
        "rank by strength": f"{1 + sum(abs(score) > strength for score in scores)} of {len(scores)}",
        "share of all strength": percent(strength / total if total else None),
        "held fixed": "yes" if shown.document["held_fixed"][position] else "no",
    }
