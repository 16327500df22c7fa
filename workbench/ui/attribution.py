"""Maps of a prompt: one model's strip, what quantizing changed, the scores as a chart and as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.tokens import compare_tokens
from workbench.ui import compare, present
from workbench.ui.attribution_units import Units, units_of
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, plotly_text, visible
from workbench.ui.numbers import number, percent
from workbench.ui.study import Shown
from workbench.ui.tokens import Look, Span, span_strip

TOLERANCE = 1e-3
"""Relative gap under which scores count as complete, for methods that have no such option."""


@dataclass(frozen=True)
class View:
    """How all maps of the page are drawn.

    Attributes:
        size: of the units, one of `attribution_units.SIZES`.
        marked: spans of tokens that a person marked.
    """

    size: str = "token"
    marked: tuple[Span, ...] = ()

    def units(self, shown: Shown) -> Units:
        """The units of a result."""
        return units_of(shown.document, self.size)

    def values(self, shown: Shown) -> list[float | None]:
        """The scores of a result's units, as far as there are any."""
        return self.units(shown).gathered(shown.document["scores"], signed=shown.document["signed"])

    def scores(self, shown: Shown) -> list[float]:
        """The same with zero where there is none."""
        return known(self.values(shown))


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


def draw_model(shown: Shown, *, name: str, key: str, limit: float | None, view: View | None = None) -> Span | None:
    """One map as a strip with its badge, its sentences, its value and its notes.

    Args:
        shown: an attribution.
        name: what stands above the strip.
        key: of the strip.
        limit: the score that takes the full colour, None for the largest.
        view: how it is drawn.

    Returns:
        The chosen tokens.
    """
    view, document = view or View(), shown.document
    units = view.units(shown)
    with shown:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{markdown(name)}**")
            gap = completeness(document)
        look = Look(
            limit=limit,
            signed=document["signed"],
            fixed=units.every(document["held_fixed"]),
            marked=units.touched(view.marked),
            unit=view.size,
        )
        chosen = span_strip(
            units.texts,
            view.values(shown),
            key=key,
            label=f"{view.size.capitalize()}s by attribution, {name}",
            look=look,
        )
        st.write(markdown(" ".join(document["sentences"])))
        st.caption(markdown("; ".join([value_words(document), *([gap] if gap else []), *document["notes"]])))
    return None if chosen is None else units.tokens_of(chosen)


def value_words(document: Mapping[str, Any]) -> str:
    """What is explained and how large it is; plain text."""
    words = f"{document['target']['label']} = {number(document['value'])}"
    if document["target"]["kind"] == "logprob":
        words += f", a probability of {percent(math.exp(document['value']))}"
    return words


def strip_limit(*results: Shown | None, view: View | None = None) -> float:
    """The largest magnitude in all results: the common end of their colour scales."""
    view = view or View()
    return max((abs(score) for one in results if one for score in view.scores(one)), default=0.0)


def known(scores: Sequence[float | None]) -> list[float]:
    """The scores, zero where there is none."""
    return [0.0 if score is None else score for score in scores]


def comparable(full: Shown, quantized: Shown) -> bool:
    """Whether two results are about the same tokens and the choices as they stand."""
    return not (full.stale or quantized.stale) and full.document["tokens"] == quantized.document["tokens"]


def draw_difference(full: Shown, quantized: Shown, *, limit: float, view: View | None = None) -> Span | None:
    """Quantized minus full on the same scale, and the agreement of the two; returns the chosen tokens."""
    view = view or View()
    before, after, units = view.scores(full), view.scores(quantized), view.units(full)
    st.markdown("**What quantizing changed** (quantized minus full)")
    chosen = span_strip(
        units.texts,
        [late - early for early, late in zip(before, after, strict=True)],
        key="strip-difference",
        label="Change of attribution, quantized minus full",
        look=Look(
            limit=limit,
            marked=units.touched(view.marked),
            ends=("less than before", "more than before"),
            unit=view.size,
        ),
    )
    _draw_agreement(before, after, view.size)
    return None if chosen is None else units.tokens_of(chosen)


def _draw_agreement(before: Sequence[float], after: Sequence[float], size: str) -> None:
    """How far two maps agree, in numbers and in words."""
    agreement, count = compare.rank_agreement(before, after), min(3, len(before))
    columns = st.columns(3)
    columns[0].metric(
        "Rank agreement", number(agreement, 2), help="Spearman's correlation: 1 is the same order, 0 is no relation."
    )
    columns[1].metric(f"Same top {count} {size}s", f"{compare.top_overlap(before, after, count)} of {count}")
    columns[2].metric(f"{size.capitalize()}s that changed sign", compare.sign_flips(before, after))
    st.caption(f"The two models put the {size}s in {compare.agreement_words(agreement)}.")


def draw_comparison(full: Shown, quantized: Shown, view: View | None = None) -> None:
    """The chart of both models with its table."""
    frame = comparison(full, quantized, view or View())
    place, change = max(enumerate(frame["change"]), key=lambda item: abs(item[1]))
    present.chart(
        drawing(compare_tokens, frame.assign(label=frame["token"].map(plotly_text)), unit="score"),
        alt=f"Scores of {len(frame)} tokens in the full and in the quantized model. The largest change is at token "
        f"{place + 1}: {number(change, sign=True)}.",
        key="attribution-chart",
        table_of=numbered(frame),
        file_name="attribution.csv",
    )


def comparison(full: Shown, quantized: Shown, view: View) -> pd.DataFrame:
    """Position, token (or another unit), both scores, their change."""
    before, after, units = view.scores(full), view.scores(quantized), view.units(full)
    changes = [late - early for early, late in zip(before, after, strict=True)]
    scores = {"full": before, "quantized": after, "change": changes}
    return pd.DataFrame({"position": range(len(units.texts)), "token": units.texts, **scores})


def ranked_tokens(shown: Shown) -> pd.DataFrame:
    """The tokens with their scores, strongest first."""
    return numbered(shown.tables["tokens"].sort_values("score", key=lambda scores: -scores.abs(), kind="stable"))


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of tokens for people: tokens counted from 1, as the strip counts them, and their blanks visible."""
    shown = frame.rename(columns={"position": "token number"}).reset_index(drop=True)
    return shown.assign(**{"token number": shown["token number"] + 1, "token": shown["token"].map(visible)})
