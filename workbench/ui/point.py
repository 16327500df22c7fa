"""One point of the trade-off in detail: its numbers against the reference, its plan, and a second plan beside it."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from workbench.allocation.plan import Plan, dumps, read_plan
from workbench.figures.frames import keep
from workbench.figures.tradeoff import KINDS
from workbench.ui import address, bit_allocation, controls, plan_pair, rows
from workbench.ui.defaults import Spec
from workbench.ui.desk import Desk
from workbench.ui.escape import markdown
from workbench.ui.numbers import MINUS, NONE, number, percent
from workbench.ui.plan_files import FILE, verdict
from workbench.ui.plans import Document, width_words
from workbench.ui.trade_off import CERTAIN, Points, draw_chart, draw_noise

FULL = "the full model"
NOBODY = "nothing"


def draw(points: Points, model: str, matrices: list[Document] | None) -> None:
    """The chart with its choices, the chosen point, and the one beside it."""
    labels = list(points.frame["label"])
    above = st.container()
    left, middle, right = st.columns(3)
    with left:
        chosen = controls.select("Point in detail", labels, _first(points.frame), key="point")
    with middle:
        others = [NOBODY, *(label for label in labels if label in points.plans and label != chosen)]
        second = controls.select("Beside it", others, NOBODY, key="second", help="Points whose plan is known.")
    with right:
        about = "All differences are taken against it."
        pinned = controls.select("Reference", [FULL, *labels], FULL, key="pinned", help=about)
    with above:
        _draw_chart(points, chosen, pinned)
    _draw_facts(points, chosen, pinned)
    plan = _plan(points, chosen)
    if plan is not None and matrices:
        _draw_plan(points, chosen, plan, model, matrices)
        if second != NOBODY:
            plan_pair.draw(points, (chosen, second), matrices)


def _first(frame: pd.DataFrame) -> str:
    """A plan that was solved, where there is one: the middle one of them; else the last point."""
    solved = list(frame.loc[frame["kind"] == "front", "label"])
    return solved[len(solved) // 2] if solved else list(frame["label"])[-1]


def _draw_chart(points: Points, chosen: str, pinned: str) -> None:
    if points.reference is None or not any(math.isfinite(value) for value in points.frame["perplexity"]):
        st.error("No point has a finite perplexity on this text, so that there is nothing to draw.")
    else:
        against = None if pinned == FULL else pinned
        frame = points.frame if against is None else points.frame.assign(**_over(points.frame, against))
        draw_chart(frame, points.reference, chosen, key="tradeoff", control="point", pinned=against)
    held = keep(points.frame, points.frame["kind"].isin(KINDS))  # of rules of thumb nobody asks which are alike
    draw_noise(held, points.text)


def _over(frame: pd.DataFrame, pinned: str) -> dict[str, list[float]]:
    """Rise of the loss over the pinned point, with a standard error as if the two were independent."""
    row = rows.named(frame, "label", pinned)
    errors = frame["delta_standard_error"].astype(float)
    return {
        "over_reference": (frame["delta_loss"].astype(float) - row["delta_loss"]).tolist(),
        "over_reference_error": [math.hypot(error, row["delta_standard_error"]) for error in errors],
    }


def _draw_facts(points: Points, chosen: str, pinned: str) -> None:
    row = rows.named(points.frame, "label", chosen)
    st.markdown(f"**{markdown(chosen)}**")
    base = _base(points, pinned)
    columns = st.columns(5)
    _metric(columns[0], "Stored bits per weight", f"{row['stored_bits']:.3f}", row["stored_bits"] - base["stored_bits"])
    _metric(columns[1], "Perplexity", number(row["perplexity"], 4), row["perplexity"] - base["perplexity"])
    error = number(row["delta_standard_error"], 2)
    columns[2].metric(
        "Rise of the loss",
        number(row["delta_loss"]),
        help=f"Over the full model, nats a token; standard error {error}.",
    )
    columns[3].metric("Divergence", number(row["kl_mean"]), help="Mean KL of the next-token distribution, nats.")
    columns[4].metric("Same likeliest token", percent(row["top1_agreement"]))
    if pinned not in (FULL, chosen):
        st.write(against(row, base, pinned))
    if row["dominated"]:
        st.write("Another point is at least as small and as good: there is no reason to take this one.")
    st.button(
        "Pin as the reference", key="pin", icon=":material/push_pin:", on_click=address.put, args=("pinned", chosen),
        disabled=pinned == chosen,
    )  # fmt: skip


def _base(points: Points, pinned: str) -> dict[str, Any]:
    if pinned != FULL:
        return rows.named(points.frame, "label", pinned)
    return {"stored_bits": math.nan, "perplexity": points.reference if points.reference is not None else math.nan}


def _metric(place: Any, label: str, value: str, change: float) -> None:
    """A number with its difference to the reference; without a colour, since only noise tells good from bad."""
    told = number(change, sign=True).replace(MINUS, "-")  # Streamlit draws the arrow by this sign
    place.metric(label, value, delta=None if told == NONE else told, delta_color="off")


def against(row: dict[str, Any], base: dict[str, Any], pinned: str) -> str:
    """A point against the pinned one in a sentence."""
    gap = row["delta_loss"] - base["delta_loss"]
    error = math.hypot(row["delta_standard_error"], base["delta_standard_error"])
    words = f"{number(gap, sign=True)} ± {number(error, 2)} nats a token against {markdown(pinned)}"
    size = f"{number(row['stored_bits'] - base['stored_bits'], sign=True)} stored bits"
    if not abs(gap) >= CERTAIN * error:
        return f"{size}; the two cannot be told apart on this text: {words}."
    return f"{size}; {'worse' if gap > 0 else 'better'}: {words}."


def _plan(points: Points, label: str) -> Plan | None:
    held = points.plans.get(label)
    return None if held is None else read_plan(held)


def _draw_plan(points: Points, chosen: str, plan: Plan, model: str, matrices: list[Document]) -> None:
    """Its widths, prediction against measurement, why it was taken, and where it can go."""
    row = rows.named(points.frame, "label", chosen)
    st.write(f"In this plan: {width_words(plan)}.")
    if row["kind"] == "front":
        st.write(why(row["reason"]))
        predicted = None if pd.isna(row["predicted_loss"]) else row["predicted_loss"]
        told = f"Rise of the loss: predicted {number(predicted)}, measured {number(row['delta_loss'])} nats a token."
        st.write(f"{told} {verdict(predicted, row['delta_loss'], row['delta_standard_error'])}")
    _draw_ways_out(points.plans[chosen], plan, model)
    bit_allocation.draw_bars(plan, matrices, {}, key="point-bars")


def why(reason: Any) -> str:
    """Why a plan along the budgets was taken; results of an earlier version do not say it."""
    told = markdown(reason) if isinstance(reason, str) else "this result does not say why"
    return f"Taken at this budget, on calibration text that no plan was made on: {told}."


def _draw_ways_out(document: Spec, plan: Plan, model: str) -> None:
    with st.container(horizontal=True):
        sent = st.button(
            "Send to Bit allocation", key="send", icon=":material/send:", type="primary", on_click=Desk(model).take,
            args=(document, "trade-off"), help="It becomes the plan that you work on there.",
        )  # fmt: skip
        if sent:
            st.switch_page("pages/bit_allocation.py")
        st.download_button(
            "Download this plan (JSON)", lambda: dumps(plan).encode("utf-8"), FILE, "application/json",
            key="point-download", on_click="ignore", icon=":material/download:",
        )  # fmt: skip
