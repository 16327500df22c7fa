"""The part "Decide by measuring": candidates for a budget, all measured on text that none was made on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from workbench.allocation.budgets import Request
from workbench.figures.allocation import candidate_dots
from workbench.ui import controls, defaults, mixing, present, rows, study
from workbench.ui.budget import as_asked
from workbench.ui.defaults import Limits, Mix, Texts
from workbench.ui.desk import Desk
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, plural
from workbench.ui.study import Shown

CERTAIN = 2.0
"""Standard errors beyond which a prediction is said to have missed."""

ENDED = {
    "no swap helps": "none of the next swaps helped",
    "the time was spent": "the time was spent, and what was found by then was kept",
    "the plan is not of this table": "the plan could not be changed on its table",
}
COLUMNS = ["label", "taken", "stored_bits", "predicted", "delta_loss", "delta_standard_error", "kl_mean", "over_taken",
           "over_taken_standard_error"]  # fmt: skip


def section(model: str, texts: Texts, request: Request, mix: Mix, limits: Limits, desk: Desk) -> None:
    """Draw the section."""
    st.subheader("Decide by measuring")
    st.write(
        "A sum of costs is a guess. Here a plan is solved on every table that is chosen below, uniform plans join, and "
        "all of them are measured on calibration text that no plan was made on. A uniform plan stands unless another "
        "one is clearly better, and one with fused matrices alike unless another is better by a standard error; where "
        "sums fail, measured swaps improve the best plan."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        ways = mixing.ways_choice()
        seconds = controls.number(
            "Seconds for swaps", defaults.REFINED_FOR, key="refine", low=0, high=3600, step=10, width=160,
            help="At most so long are measured swaps tried; 0 for none.",
        )  # fmt: skip
    asked = {"mix": mix, "limits": replace(limits, locks=desk.locks), "ways": ways, "refine_seconds": seconds}
    shown = study.study(
        *defaults.allocate(model, texts, budget=as_asked(request), **asked),
        label="the plan that measuring decides on",
        slot="decision",
        estimate="the tables that are still missing, some seconds a candidate, and the time for swaps",
    )
    if shown:
        with shown:
            _draw(shown, desk)


def _draw(shown: Shown, desk: Desk) -> None:
    document = shown.document
    if not document["candidates"]:
        st.info(markdown(f"{document['reason']}: {document['note']}"))
        return
    frame = shown.tables["candidates"].sort_values("delta_loss", na_position="last").reset_index(drop=True)
    taken = rows.named(frame, "taken", True)
    st.success(f"**Taken:** {markdown(document['reason'])}.", icon=":material/gavel:")
    _draw_button(shown, desk)
    text = document["text"]
    basis = "calibration text that no plan was made on" if text["unseen"] else "the calibration text itself"
    st.caption(f"Decided on {text['tokens']:,} tokens of {basis}. {markdown(document['note'] or '')}")
    present.chart(
        drawing(candidate_dots, frame),
        alt=f"Predicted and measured rise of the loss of {plural(len(frame), 'candidate')}; taken: {taken['label']} "
        f"with {number(taken['delta_loss'], sign=True)} nats at {number(taken['stored_bits'])} stored bits.",
        key="candidates",
        table_of=frame.reindex(columns=COLUMNS),
        file_name="candidates.csv",
    )
    _draw_sums(frame, shown)


def _draw_button(shown: Shown, desk: Desk) -> None:
    if not shown.stale:
        st.button(
            "Work on with this plan", key="take-decision", icon=":material/move_up:", on_click=desk.take,
            args=(shown.document["plan"], "decided"), help="It takes the place of the plan above.",
        )  # fmt: skip


def _draw_sums(frame: pd.DataFrame, shown: Shown) -> None:
    """Where predictions missed, and what swaps did about it."""
    sentences = missed(frame)
    if sentences:
        listed = "\n".join(f"- {sentence}" for sentence in sentences)
        st.warning(f"**Sums fail here.**\n\n{listed}", icon=":material/functions:")
    else:
        st.write("The sums hold here: every prediction is within two standard errors of what was measured.")
    document = shown.document
    tried, kept = document["swaps_measured"], document["swaps"]
    if document["refining_ended"] is None:
        reason = (
            "none were asked for" if not shown.spec["refine_seconds"] else "every sum was close enough on its own text"
        )
        st.write(f"No swaps were measured: {reason}.")
        return
    ended = ENDED.get(document["refining_ended"], document["refining_ended"])
    st.write(
        f"{plural(tried, 'swap was', 'swaps were')} measured and {len(kept)} taken; then the search ended: "
        f"{markdown(ended)}."
    )
    if kept:
        present.table(pd.DataFrame(kept), key="swaps", file_name="swaps.csv", label="The swaps that were taken")


def missed(frame: pd.DataFrame) -> list[str]:
    """A sentence for each candidate whose measured cost lies beyond two standard errors of its prediction."""
    return [_miss(row) for row in frame.to_dict("records") if _is_missed(row)]


def _is_missed(row: dict[Any, Any]) -> bool:
    numbers = [row[name] for name in ("predicted", "delta_loss", "delta_standard_error")]
    if any(value is None or not math.isfinite(value) for value in numbers):
        return False
    return abs(numbers[1] - numbers[0]) > CERTAIN * numbers[2]


def _miss(row: dict[Any, Any]) -> str:
    return (
        f"{markdown(row['label'])}: predicted {number(row['predicted'])} nats, measured "
        f"{number(row['delta_loss'])} ± {number(row['delta_standard_error'], 2)}."
    )
