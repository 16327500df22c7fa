"""The parts of the Jobs page: what runs with its bar, what ended with its result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from workbench.estimates.record import Record
from workbench.jobs.job import LONG, Job
from workbench.ui import links, session
from workbench.ui.escape import markdown
from workbench.ui.navigation import TITLES
from workbench.ui.numbers import duration, size
from workbench.ui.study import POLL, job_words
from workbench.ui.words import kind_label, summary

LISTED = 25
"""Jobs that the page shows."""

STATES = {
    "queued": ("waiting", "gray", ":material/schedule:"),
    "running": ("running", "blue", ":material/progress_activity:"),
    "done": ("done", "green", ":material/check:"),
    "failed": ("failed", "red", ":material/error:"),
    "cancelled": ("cancelled", "gray", ":material/block:"),
    "interrupted": ("interrupted", "orange", ":material/power_off:"),
}
"""State of a job -> word, colour and icon of its badge."""


def draw_active(identifiers: list[str]) -> None:
    """The jobs that run or wait, looked at every second while there are some."""
    if not identifiers:
        st.caption("Nothing is running, nothing waits.")
        return
    st.fragment(_active, run_every=POLL)(identifiers)


def _active(identifiers: list[str]) -> None:
    client = session.client()
    jobs = [client.job(identifier) for identifier in identifiers]
    if any(not job.active for job in jobs):
        st.rerun()
    for job in jobs:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            _badge(job)
            words = f"**{markdown(kind_label(job.kind))}**: {markdown(summary(job.spec))}; {job_words(job)}"
            st.progress(job.share, text=words)
            st.button(
                "Cancel", key=f"cancel-{job.id}", icon=":material/close:", on_click=session.cancel, args=(job.id,)
            )
        _workers(client.workers(job.id) if job.state == "running" else [])


def _workers(rows: list[dict[str, Any]]) -> None:
    """What each worker of a sweep over Ray does."""
    if rows:
        st.dataframe(worker_table(rows), hide_index=True, width="stretch")


def worker_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a worker: where it is, what it does, how much it has made, how often its place was filled again."""
    return pd.DataFrame(
        [
            {
                "worker": row["worker"],
                "machine": row["host"] or "",
                "state": row["state"],
                "parts": row["parts"],
                "cells": row["cells"],
                "replaced": row["restarts"],
                "now": row["note"],
            }
            for row in rows
        ]
    )


def draw_history(jobs: list[Job], records: Mapping[str, Record]) -> None:
    """The jobs that ended, newest first, each with what can be done with it and what was expected of it."""
    if not jobs:
        st.caption("No study has been computed on this computer yet.")
    for job in jobs:
        with st.container(border=True, key=f"job-{job.id}"):
            state, what, when, act = st.columns([3, 9, 3, 3], vertical_alignment="center")
            with state:
                _badge(job)
            with what:
                _draw_ended(job, records.get(job.id))
            when.caption(_ago(job) if job.id in records else f"{_ago(job)}, took {_took(job)}")
            with act:
                _act(job)


def _draw_ended(job: Job, record: Record | None) -> None:
    """What was asked, and what came of it."""
    st.markdown(f"**{markdown(kind_label(job.kind))}**: {markdown(summary(job.spec))}")
    if job.error:
        st.markdown(markdown(job.error))
    if record is not None:
        st.caption(outcome(record))


def outcome(record: Record) -> str:
    """What was expected of a study and what it took, in a sentence."""
    return (
        f"Expected about {duration(record.seconds)} and {size(record.peak)}; took {duration(record.took)} and "
        f"{size(record.held)}."
    )


def _act(job: Job) -> None:
    page = links.PAGES.get(job.kind)
    if job.state == "done" and page is not None:
        opened = st.button(
            "Open",
            key=f"open-{job.id}",
            icon=":material/open_in_new:",
            on_click=links.take_over,
            args=(job.spec,),
            help=f"Shows the result on the page {TITLES[page]}.",
        )
        if opened:
            st.switch_page(f"pages/{page}.py")
    elif job.state != "done":
        st.button(
            "Run again",
            key=f"again-{job.id}",
            icon=":material/replay:",
            on_click=session.ask,
            args=(job.kind, job.spec, LONG, job.id),
        )
        if session.refusal(job.id):
            st.error(markdown(session.refusal(job.id)))


def _badge(job: Job) -> None:
    word, colour, icon = STATES[job.state]
    st.badge(word, color=colour, icon=icon)  # pyright: ignore[reportArgumentType]


def job_table(jobs: list[Job], records: Mapping[str, Record]) -> pd.DataFrame:
    """One row a job, for sorting and for the CSV file."""
    return pd.DataFrame(
        [
            {
                "queued": datetime.fromtimestamp(job.created),
                "study": kind_label(job.kind),
                "choices": summary(job.spec),
                "state": job.state,
                "done": f"{job.share:.0%}",
                "seconds": _seconds(job),
                **_expected(records.get(job.id)),
                "error": job.error,
                "id": job.id,
            }
            for job in jobs
        ]
    )


def _expected(record: Record | None) -> dict[str, float | None]:
    """The columns of estimate and truth; empty where nothing was foretold."""
    if record is None:
        return dict.fromkeys(("expected seconds", "study seconds", "expected GB", "most GB"))
    return {
        "expected seconds": round(record.seconds, 1),
        "study seconds": round(record.took, 1),
        "expected GB": round(record.peak / 1e9, 3),
        "most GB": round(record.held / 1e9, 3),
    }


def _seconds(job: Job) -> float | None:
    return None if job.started is None or job.ended is None else round(job.ended - job.started, 1)


def _took(job: Job) -> str:
    seconds = _seconds(job)
    return "no time" if seconds is None else duration(seconds)


def _ago(job: Job) -> str:
    return f"{duration(time.time() - (job.ended or job.created))} ago"
