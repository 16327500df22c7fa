"""The part "Fewest bits that keep the reasons": ceilings on divergence and on how far attribution may drift."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from workbench.figures.allocation import guard_steps
from workbench.ui import controls, defaults, present, reasons_curve, session, study
from workbench.ui.defaults import Guard, Limits, Mix, Texts
from workbench.ui.desk import Desk
from workbench.ui.drawing import drawing
from workbench.ui.mixing import SOLVED_ON
from workbench.ui.numbers import number, plural
from workbench.ui.study import Shown

MAX_KL, MIN_AGREEMENT = 0.05, 0.9
MORE_DETAIL = {"stored_bits": "%.3f", "kl_mean": "%.4g", "agreement": "%.3f"}


def section(model: str, texts: Texts, mix: Mix, limits: Limits, by: str, desk: Desk) -> None:
    """Draw the section."""
    st.subheader("Fewest bits that keep the reasons")
    st.write(
        "Instead of a budget, say what must not be lost: how far answers may move from the full model's, and how alike "
        "the maps of both models must be. Plans are tried from the smallest up until one keeps both."
    )
    guard = _choice()
    if guard.max_kl is None and guard.min_agreement is None:
        st.info("Switch on at least one of the two to look for a plan.")
        return
    kept = {"mix": mix, "limits": replace(limits, locks=desk.locks), "by": by if by in SOLVED_ON else SOLVED_ON[0]}
    shown = study.study(
        *defaults.guarded(model, texts, guard=guard, **kept),
        label="the plan of fewest bits that keeps this",
        slot="guarded",
        estimate="some seconds a plan that is tried, up to about thirty plans, and a map of every prompt where the "
        "answers are close enough",
    )
    if shown:
        with shown:
            _draw(shown, desk)


def _choice() -> Guard:
    left, right = st.columns(2, gap="large")
    with left:
        kl = _ceiling("Keep the answers: divergence", "Most divergence, nats a token", "kl", True, MAX_KL, 1e-6, 100.0)
    with right:
        least = _ceiling(
            "Keep the reasons: maps", "Least rank correlation", "agreement", False, MIN_AGREEMENT, -1.0, 1.0
        )
    if least is None:
        return Guard(max_kl=kl)
    known = list(session.descriptions("attribution"))
    first = defaults.GUARD_METHOD if defaults.GUARD_METHOD in known else known[0]
    method = controls.select("Maps drawn by", known, first, key="guard-method", width=300)
    return Guard(kl, least, method, tuple(reasons_curve.prompts_choice()))


def _ceiling(switch: str, label: str, key: str, on: bool, usual: float, low: float, high: float) -> float | None:
    if not controls.toggle(switch, on, key=f"guard-{key}"):
        return None
    return controls.number(label, usual, key=f"limit-{key}", low=low, high=high, step=0.01, width=240)


def _draw(shown: Shown, desk: Desk) -> None:
    document, frame = shown.document, shown.tables["tried"]
    max_kl, least = document["max_kl"], document["min_agreement"]
    sizes = sorted(frame["stored_bits"].tolist())
    st.success(verdict(frame, max_kl, least), icon=":material/shield:")
    if not shown.stale:
        st.button(
            "Work on with this plan", key="take-guarded", icon=":material/move_up:", on_click=desk.take,
            args=(document["plan"], "guarded"), help="It takes the place of the plan above.",
        )  # fmt: skip
    present.chart(
        drawing(guard_steps, frame, max_kl=max_kl, min_agreement=least),
        alt=f"Divergence{'' if least is None else ' and agreement of maps'} of {plural(len(frame), 'plan')} that were "
        f"tried, from {number(sizes[0])} to {number(sizes[-1])} stored bits; the "
        "last one keeps what was asked.",
        key="guard-chart",
        table_of=frame,
        file_name="guarded-plans.csv",
        formats=MORE_DETAIL,
    )


def verdict(frame: pd.DataFrame, max_kl: float | None, least: float | None) -> str:
    """What the last plan that was tried keeps, in a sentence of our own words."""
    last = frame.iloc[-1]
    parts = [] if max_kl is None else [f"its divergence is {number(last['kl_mean'])} nats a token (at most {max_kl:g})"]
    if least is not None:
        parts.append(f"its maps agree with the full model's by {number(last['agreement'])} (at least {least:g})")
    return f"**{last['stored_bits']:.3f} stored bits** are enough: {' and '.join(parts)}."
