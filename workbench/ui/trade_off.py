"""The parts of the Trade-off page: which points, the chart, one point's facts, what cannot be told apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from workbench.allocation.plan import parse, stored_bits
from workbench.figures.frames import keep
from workbench.figures.tradeoff import tradeoff_scatter
from workbench.ui import controls, picking, rows
from workbench.ui.defaults import Spec, uniform_points
from workbench.ui.desk import Desk
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.plans import bare
from workbench.ui.study import Shown

PLANS = {"current": "plan of Bit allocation", "uploaded": "uploaded plan"}
TOLD = 4
"""So many sentences on noise are told at once."""

CERTAIN = 2.0
"""Differences below this many standard errors are called noise."""


def point_choice(model: str, scheme: Spec) -> list[Spec]:
    """Draw which plans of this session join the uniform widths; returns the points to measure."""
    points = uniform_points(scheme, scheme["bits"] or [])
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
    frame = shown.tables["points"].reset_index(drop=True)
    plans = {point["label"] for point in shown.spec["points"] if point.get("plan") is not None}
    perplexity = frame["perplexity"].astype(float).fillna(math.inf)
    return frame.assign(
        kind=["plan" if label in plans else "uniform" for label in frame["label"]],
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


def draw_points(shown: Shown) -> None:
    """The chart, what is noise, and the facts of the chosen point."""
    frame, reference = readable(shown), shown.document["reference"]["perplexity"]
    labels = list(frame["label"])
    above = st.container()
    chosen = controls.select("Point in detail", labels, labels[-1], key="point")
    with above:
        if reference is None or not any(math.isfinite(value) for value in frame["perplexity"]):
            st.error("No point has a finite perplexity on this text, so that there is nothing to draw.")
        else:
            draw_chart(frame, reference, chosen, key="tradeoff", control="point")
        draw_noise(frame, shown.document["text"])
    _draw_facts(rows.named(frame, "label", chosen), shown, reference)


def draw_chart(frame: pd.DataFrame, reference: float, chosen: str, *, key: str, control: str) -> None:
    """The chart of what `readable` gives; a click sets the control of that key to the point's label."""
    finite = keep(frame, [math.isfinite(value) for value in frame["perplexity"]])
    best, lost = rows.smallest(finite, "perplexity"), len(frame) - len(finite)
    labels = list(frame["label"])
    picking.chart(
        tradeoff_scatter(frame, reference=reference, selected=chosen),
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


def _draw_facts(row: rows.Row, shown: Shown, reference: float | None) -> None:
    st.markdown(f"**{markdown(row['label'])}**")
    change = row["perplexity"] / reference - 1 if reference else None
    columns = st.columns(5)
    columns[0].metric(
        "Stored bits per weight", f"{row['stored_bits']:.3f}", help=f"The codes alone: {number(row['nominal_bits'])}."
    )
    columns[1].metric("Perplexity", number(row["perplexity"], 4), help=f"{percent(change)} above the full model.")
    error = number(row["delta_standard_error"], 2)
    columns[2].metric(
        "Rise of the loss", number(row["delta_loss"]), help=f"Nats a token; standard error {error}, paired."
    )
    columns[3].metric("Divergence", number(row["kl_mean"]), help="Mean KL of the next-token distribution, nats.")
    columns[4].metric("Same likeliest token", percent(row["top1_agreement"]))
    if row["dominated"]:
        st.write("Another point is at least as small and as good: there is no reason to take this one.")
    point = next(one for one in shown.spec["points"] if one["label"] == row["label"])
    if point.get("plan") is not None:
        widths = pd.Series([tensor["bits"] for tensor in point["plan"]["tensors"].values()]).value_counts().sort_index()
        counts = ", ".join(
            f"{plural(int(count), 'matrix', 'matrices')} at {bits} bits" for bits, count in widths.items()
        )
        st.write(f"In this plan: {counts}.")
