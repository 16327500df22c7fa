"""The panel of a study: asks for it, shows how far it is, and hands its result to the page.

A page states its question, `shown = study("salience", spec, label="salience")`, and draws `with shown:` what it finds
in `shown.tables`. All states are drawn here: nothing asked yet, waiting, running, failed, cancelled, interrupted.
While a new answer is on its way the last one stays, greyed and marked as an answer to other choices.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from workbench.jobs.job import INTERACTIVE, LONG, Job
from workbench.results import Result
from workbench.ui import session
from workbench.ui.defaults import Spec
from workbench.ui.escape import markdown
from workbench.ui.memory import limited
from workbench.ui.numbers import duration, plural
from workbench.ui.words import differences

POLL = 1.0
"""Seconds between two looks at a running job."""


@dataclass(frozen=True)
class Shown:
    """A result to draw, and whether it answers the choices of the page as they stand.

    Use it as a context manager: what is drawn inside is greyed when the result is stale.
    """

    result: Result
    spec: Spec
    stale: bool
    place: DeltaGenerator

    @property
    def document(self) -> dict[str, Any]:
        """The study's JSON document."""
        return self.result.document

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The study's tidy tables by name."""
        return self.result.tables

    def __enter__(self) -> Shown:
        """Draw into this result's place."""
        self.place.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        """Stop drawing into it."""
        self.place.__exit__(*failure)


def study(
    kind: str, spec: Spec, *, label: str, slot: str | None = None, auto: bool = False, estimate: str | None = None
) -> Shown | None:
    """Draw the state of a study and return what there is to show.

    Args:
        kind: kind of the study, as `jobs.client.submit` takes it.
        spec: the whole spec, from `workbench.ui.defaults`.
        label: what is computed, in our own words, such as `the salience of every matrix`.
        slot: name of this place on the page, unique; by default the kind. The last result of a slot stays visible,
            greyed, while its successor is computed.
        auto: ask without a click, for studies that take a moment.
        estimate: how long it takes, in words, beside the button.

    Returns:
        The result, or the slot's former result marked stale, or None when there is nothing yet.
    """
    slot, client = slot or kind, session.client()
    result = client.result(kind, spec)
    job = client.latest(kind, spec) if result is None else None
    if job is not None and job.state == "done":  # it may have ended between the two looks
        result = client.result(kind, spec)
    if result is not None:
        session.remember(f"shown-{slot}", spec)
        return Shown(result, spec, False, st.container(key=f"fresh-{slot}"))
    former = _former(kind, spec, slot)
    if job is None and auto:
        job = client.submit(kind, limited(spec), INTERACTIVE)
    if job is not None and job.active:
        st.fragment(_progress_panel, run_every=POLL)(job.id, label, slot)
    else:
        _draw_offer(job, (kind, spec, INTERACTIVE if auto else LONG, slot), label, estimate)
    if former is None:
        if job is not None and job.active:
            st.skeleton(height=220)
        return None
    changed = differences(former[1], spec)
    st.warning(f"What follows was computed for other choices: {changed}.", icon=":material/history:")
    return Shown(former[0], former[1], True, st.container(key=f"stale-{slot}"))


def _former(kind: str, spec: Spec, slot: str) -> tuple[Result, Spec] | None:
    """The last result of the slot, when it is about the same model and still on disk."""
    before = session.recall(f"shown-{slot}")
    if not before or before["model"] != spec["model"]:
        return None
    result = session.client().result(kind, before)
    return None if result is None else (result, before)


def _draw_offer(job: Job | None, question: tuple[str, Spec, int, str], label: str, estimate: str | None) -> None:
    """Why there is no result, and the button that asks for it; `question` is what `session.ask` takes."""
    slot = question[-1]
    with st.container(border=True, key=f"state-{slot}"):
        _explain(job, label)
        st.button(
            f"Compute {label}" if job is None else "Run again",
            key=f"run-{slot}",
            type="primary",
            icon=":material/play_arrow:",
            on_click=session.ask,
            args=question,
        )
        if estimate:
            st.caption(f"Takes {estimate}.")
        refusal = session.refusal(slot)
        if refusal:
            st.error(markdown(refusal))


def _explain(job: Job | None, label: str) -> None:
    """One sentence on why there is no result."""
    if job is None:
        st.write(f"Not computed yet: {label}.")
    elif job.state == "failed":
        reason = markdown(job.error or "No reason was given.")
        st.error(f"Computing {label} did not work: {reason}", icon=":material/error:")
    elif job.state == "cancelled":
        st.info(f"Computing {label} was cancelled.", icon=":material/block:")
    elif job.state == "interrupted":
        reason = markdown(job.error or "the program was stopped")
        st.warning(f"Computing {label} was interrupted: {reason}", icon=":material/power_off:")
    else:
        st.info(f"The result of this study ({label}) is no longer on disk.", icon=":material/delete:")


def _progress_panel(job_id: str, label: str, slot: str) -> None:
    """Bar, words and cancel button; kept small because it is drawn every second."""
    job = session.client().job(job_id)
    if not job.active:
        st.rerun()
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.progress(job.share, text=f"Computing {label}: {job_words(job)}")
        st.button("Cancel", key=f"cancel-{slot}", icon=":material/close:", on_click=session.cancel, args=(job_id,))


def job_words(job: Job) -> str:
    """How far an active job is, with the time that is left once that can be told; Markdown-safe."""
    if job.state == "queued":
        before = session.client().ahead(job.id)
        return f"waiting for {plural(before, 'other study', 'other studies')}" if before else "next in line"
    left = job.seconds_left(time.time())
    parts = [f"{job.share:.0%}"]
    parts += [f"about {duration(left)} left"] if left is not None else []
    parts += [markdown(job.note)] if job.note else []
    parts += ["cancelling"] if job.cancel_asked else []
    return ", ".join(parts)
