"""The head of the page Reasons under quantization: the verdict, three aligned strips, one token in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.tokens import compare_tokens
from workbench.ui import controls, defaults, present, reasons_verdict
from workbench.ui.attribution import completeness, known, numbered
from workbench.ui.defaults import LIKELIEST, Explained
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, plotly_text, visible
from workbench.ui.numbers import number
from workbench.ui.study import Shown
from workbench.ui.tokens import latest_strip, token_strip

Row = Mapping[str, Any]


def next_token(chosen: Explained) -> Explained:
    """What was chosen to be explained, as far as this page can: after the plain prompt. What it leaves out it says."""
    unused = ["tokens of the text"] if chosen.explain is not None else []
    unused += ["the chat template"] if chosen.chat else []
    if unused:
        st.info(
            f"This page looks at what follows the plain prompt; not used here, though chosen: {' and '.join(unused)}.",
            icon=":material/info:",
        )
    return LIKELIEST if chosen.explain is not None else chosen._replace(chat=False)


def row_of(shown: Shown) -> Row:
    """The one prompt that the page asks about."""
    return shown.document["prompts"][0]


def draw_verdict(shown: Shown) -> None:
    """Two lights and what they rest on, with their bounds."""
    document = shown.document
    row = row_of(shown)
    answer = reasons_verdict.answer_light(row)
    reasons = reasons_verdict.reasons_light(row, document["method"], document["top_k"])
    with st.container(border=True):
        st.markdown(f"#### {reasons_verdict.headline(answer, reasons)}")
        for question, light in (("Same answer?", answer), ("Same reasons?", reasons)):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{question}**", width="content")
                st.badge(light.words, icon=light.icon, color=light.colour)
            st.write(light.sentence)
        st.caption(reasons_verdict.bounds_words(document["top_k"]))


def draw_strips(shown: Shown) -> int | None:
    """Full, quantized and their difference on one scale; returns the position of the token that was chosen last."""
    row = row_of(shown)
    before, after = (known(row[name]) for name in ("full_scores", "quantized_scores"))
    changes = [late - early for early, late in zip(before, after, strict=True)]
    limit = max((abs(score) for score in (*before, *after)), default=0.0)
    scheme = defaults.scheme_label(shown.spec["scheme"])
    options = shown.document["options"]
    chosen = {
        "strip-full": _strip(
            row, before, "Full precision", "strip-full", limit, row["full_value"], (row["full_gap"], options)
        ),
        "strip-quantized": _strip(
            row, after, f"Quantized: {scheme}", "strip-quantized", limit, row["quantized_value"],
            (row["quantized_gap"], options),
        ),
    }  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.markdown("**What quantizing changed** (quantized minus full)", width="content")
        own = controls.toggle("on a scale of its own", key="own_scale")
    chosen["strip-change"] = token_strip(
        row["tokens"],
        changes,
        key="strip-change",
        label="Change of attribution",
        limit=None if own else limit,
        ends=("less than before", "more than before"),
    )
    facts = ["The strips above share one scale" if own else "All three strips share one scale", *row["notes"]]
    st.caption(markdown("; ".join(facts)))
    latest = chosen.get(latest_strip() or "")
    return latest if latest is not None else next((one for one in chosen.values() if one is not None), None)


def _strip(
    row: Row, scores: Sequence[float], name: str, key: str, limit: float, value: float, gap: tuple[float | None, Any]
) -> int | None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{markdown(name)}**", width="content")
        told = completeness({"relative_gap": gap[0], "options": gap[1]})
    chosen = token_strip(
        row["tokens"],
        scores,
        key=key,
        label=f"Tokens by attribution, {name}",
        limit=limit,
        signed=row["signed"],
        fixed=row["held_fixed"],
    )
    st.caption(markdown("; ".join([f"{row['target']['label']} = {number(value)}", *([told] if told else [])])))
    return chosen


def draw_token(position: int, shown: Shown, damage: Shown | None, blame: Shown | None) -> None:
    """All numbers of one token: scores in both models, their change, its damage and its blame."""
    row = row_of(shown)
    if position >= len(row["tokens"]):
        return
    before, after = known(row["full_scores"])[position], known(row["quantized_scores"])[position]
    parts = {
        "full": number(before, sign=True),
        "quantized": number(after, sign=True),
        "change": number(after - before, sign=True),
    }
    for name, other, key in (("damage at it", damage, "by_token"), ("blame", blame, "scores")):
        if other and not other.stale and other.document["ids"] == row["ids"]:
            parts[name] = number(other.document[key][position], sign=True)
    st.markdown(f"**Token {position + 1} of {len(row['tokens'])}: “{markdown(visible(row['tokens'][position]))}”**")
    st.table(pd.DataFrame([parts]), hide_index=True, border="horizontal", alt="The chosen token in numbers")


def draw_comparison(shown: Shown) -> None:
    """Both models' scores in one chart, with the table."""
    frame = comparison(row_of(shown))
    place, change = max(enumerate(frame["change"]), key=lambda item: abs(item[1]))
    present.chart(
        drawing(compare_tokens, frame.assign(label=frame["token"].map(plotly_text)), unit="score"),
        alt=f"Scores of {len(frame)} tokens in the full and in the quantized model. The largest change is at token "
        f"{place + 1}, {visible(frame['token'].iloc[place])}: {number(change, sign=True)}.",
        key="reasons-chart",
        table_of=numbered(frame),
        file_name="reasons.csv",
    )


def comparison(row: Row) -> pd.DataFrame:
    """Position, token, both scores, their change."""
    before, after = (known(row[name]) for name in ("full_scores", "quantized_scores"))
    changes = [late - early for early, late in zip(before, after, strict=True)]
    tokens = row["tokens"]
    return pd.DataFrame(
        {"position": range(len(tokens)), "token": tokens, "full": before, "quantized": after, "change": changes}
    )
