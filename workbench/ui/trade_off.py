"""The parts of the Trade-off page: which points, the chart, what cannot be told apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from workbench.allocation.plan import parse, stored_bits
from workbench.figures.frames import keep
from workbench.figures.tradeoff import tradeoff_scatter
from workbench.ui import controls, picking, rows
from workbench.ui.defaults import Spec, scheme_label
from workbench.ui.desk import Desk
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, plural
from workbench.ui.plans import bare
from workbench.ui.study import Shown

PLANS = {"current": "plan of Bit allocation", "uploaded": "uploaded plan"}
TOLD = 4
"""So many sentences on noise are told at once."""

CERTAIN = 2.0
"""Differences below this many standard errors are called noise."""


@dataclass(frozen=True)
class Points:
    """Measured points of one text, from the study of points chosen by hand and from that of plans along budgets.

    Attributes:
        frame: a row a point, as `readable` gives it.
        plans: the plan of each point that has one, by its label.
        reference: perplexity of the full model.
        text: facts of the evaluation text.
        place: where the points are drawn, greyed when one of the results answers other choices.
    """

    frame: pd.DataFrame
    plans: dict[str, Spec]
    reference: float | None
    text: dict[str, Any]
    place: Shown


def point_choice(model: str, schemes: Sequence[Spec]) -> list[Spec]:
    """Draw which plans of this session join the uniform schemes; returns the points to measure."""
    points = [{"label": scheme_label(one), "scheme": one} for one in schemes]
    held = session_plans(model)
    if not held:
        st.caption("A plan that you make or upload on the page Bit allocation joins these points.")
        return points
    names = [PLANS[name] for name in held]
    wanted = controls.segments_many("Plans of this session", names, names, key="plans", help="At least one is shown.")
    return points + [plan_point(PLANS[name], text) for name, text in held.items() if PLANS[name] in wanted]


def session_plans(model: str) -> dict[str, str]:
    """The plans of this browser session, by name in `PLANS`, as text; an upload that is the current plan once."""
    desk = Desk(model)
    found = {"current": desk.text, "uploaded": desk.uploaded if desk.uploaded != desk.text else None}
    return {name: text for name, text in found.items() if text is not None}


def plan_point(name: str, text: str) -> Spec:
    """A point of the `tradeoff` study from a plan's text."""
    plan = parse(text.encode("utf-8"))
    return {"label": f"{name}, {stored_bits(plan):.3f} bits", "plan": bare(plan)}


def readable(shown: Shown) -> pd.DataFrame:
    """The measured points with `kind`, `error` (of the perplexity) and `dominated`."""
    frame, plans = shown.tables["points"].reset_index(drop=True), plans_of(shown)
    return judged(frame.assign(kind=["plan" if label in plans else "uniform" for label in frame["label"]]))


def plans_of(shown: Shown) -> dict[str, Spec]:
    """The plans among the points of the study `tradeoff`, by label."""
    return {point["label"]: point["plan"] for point in shown.spec["points"] if point.get("plan") is not None}


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Measured rows with `error` (of the perplexity) and `dominated`; an unknown perplexity is infinite."""
    perplexity = frame["perplexity"].astype(float).fillna(math.inf)
    return frame.assign(
        perplexity=perplexity,
        error=perplexity * frame["delta_standard_error"].astype(float),
        dominated=dominated(frame["stored_bits"].tolist(), perplexity.tolist()),
    )


def dominated(sizes: Sequence[float], losses: Sequence[float]) -> list[bool]:
    """Whether another point is at least as small and as good as this one, and better in one of the two."""
    points = list(zip(sizes, losses, strict=True))
    return [any(a <= x and b <= y and (a, b) != (x, y) for a, b in points) for x, y in points]


def noise_sentences(frame: pd.DataFrame) -> list[str]:
    """Which points cannot be told from the full model, and which neighbours not from each other; safe in Markdown."""
    known = frame.dropna(subset=["delta_standard_error", "delta_loss"]).sort_values("stored_bits")
    held = known.to_dict("records")
    sentences = [
        f"{markdown(row['label'])} cannot be told from the full model on this text: "
        f"{_amount(row['delta_loss'], row['delta_standard_error'])}."
        for row in held
        if abs(row["delta_loss"]) < CERTAIN * row["delta_standard_error"]
    ]
    for one, other in itertools.pairwise(held):
        gap = other["delta_loss"] - one["delta_loss"]
        error = math.hypot(one["delta_standard_error"], other["delta_standard_error"])
        if abs(gap) < CERTAIN * error:
            names = f"{markdown(one['label'])} and {markdown(other['label'])}"
            sentences.append(f"{names} cannot be told apart on this text: {_amount(gap, error)}.")
    return sentences


def _amount(gap: float, error: float) -> str:
    return f"{number(gap, 2, sign=True)} nats a token, standard error {number(error, 2)}"


def draw_chart(
    frame: pd.DataFrame, reference: float, chosen: str, *, key: str, control: str, pinned: str | None = None
) -> None:
    """The chart of what `readable` gives; a click sets the control of that key to the point's label."""
    finite = keep(frame, [math.isfinite(value) for value in frame["perplexity"]])
    best, lost = rows.smallest(finite, "perplexity"), len(frame) - len(finite)
    labels = list(frame["label"])
    picking.chart(
        drawing(tradeoff_scatter, frame, reference=reference, selected=chosen, pinned=pinned),
        alt=f"Stored bits against perplexity of {plural(len(finite), 'point')}; the full model has "
        f"{number(reference)}. Nearest to it: {best['label']} with {number(best['perplexity'])} at "
        f"{number(best['stored_bits'])} stored bits.",
        key=key,
        places=[{control: label} for label in labels],
        table_of=frame,
        cell=lambda row, _: {control: labels[row]},
        file_name="trade-off.csv",
    )
    if lost:
        st.warning(f"{plural(lost, 'point')} without a finite perplexity could not be drawn; the table has them all.")


def draw_noise(frame: pd.DataFrame, text: dict[str, Any]) -> None:
    """What cannot be told apart on the text that was read."""
    sentences = noise_sentences(frame)
    if sentences:
        st.info("\n\n".join(sentences[:TOLD]), icon=":material/blur_on:")
        if sentences[TOLD:]:
            with st.expander(f"{len(sentences) - TOLD} more that cannot be told apart"):
                st.markdown("\n\n".join(sentences[TOLD:]))
        st.caption(f"More than {text['tokens']:,} tokens (in the sidebar, under Texts) would tell smaller differences.")
