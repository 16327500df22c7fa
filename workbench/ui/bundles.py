"""The part of the Jobs page that carries finished studies between computers, and models known from bundles alone."""

from __future__ import annotations

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.jobs.job import Job
from workbench.ui import session
from workbench.ui.escape import markdown
from workbench.ui.numbers import plural
from workbench.ui.words import kind_label, summary

SLOT = "bundle"
"""Where this session remembers how the last bundle was taken: `turn`, `told`, `trouble`."""

FRESH = {"turn": 0, "told": [], "trouble": None}


def draw(jobs: list[Job]) -> None:
    """A finished study as a file, and a file from elsewhere as finished studies."""
    with st.expander("Carry results between computers", icon=":material/luggage:"):
        left, right = st.columns(2, gap="large")
        with left:
            _draw_download([job for job in jobs if job.state == "done"])
        with right:
            _draw_upload()


def _draw_download(done: list[Job]) -> None:
    if not done:
        st.caption("There is no finished study to take along yet.")
        return
    by_id = {job.id: job for job in done}
    chosen = st.selectbox(
        "Take a finished study along", list(by_id), index=None, key="bundle-job", placeholder="Choose a study",
        format_func=lambda one: f"{kind_label(by_id[one].kind)}: {summary(by_id[one].spec)} ({one})",
    )  # fmt: skip
    if chosen is None:
        return
    try:
        content = session.client().bundle(chosen)
    except WorkbenchError as error:
        st.error(markdown(error), icon=":material/error:")
        return
    st.download_button(
        "Download the bundle", content, f"{by_id[chosen].kind}-{chosen}.zip", "application/zip",
        key="bundle-download", on_click="ignore", icon=":material/download:",
    )  # fmt: skip
    st.caption("Result, tables, and the cells that it was made of; on the shell: `workbench bundle create OUT.zip`.")


def _draw_upload() -> None:
    held, most = session.recall(SLOT, FRESH), int(st.get_option("server.maxUploadSize"))
    key = f"bundle-upload-{held['turn']}"
    st.file_uploader("Open one from another computer", type=["zip"], key=key, on_change=_take, args=(key,))
    st.caption(
        f"At most {most} MB here; larger ones: `workbench bundle open FILE`. Everything in it is checked against its "
        "digests before anything is taken. They show damage, not who made it: open what comes from people you know."
    )
    if held["trouble"]:
        st.error(markdown(held["trouble"]), icon=":material/error:")
    for sentence in held["told"]:
        st.success(markdown(sentence), icon=":material/check:")


def _take(key: str) -> None:
    """Open an uploaded bundle; how it went is told at the next drawing."""
    file, held = st.session_state[key], session.recall(SLOT, FRESH)
    if file is None:
        return
    try:
        opened = session.client().open_bundle(file.getvalue(), file.name)
    except WorkbenchError as error:
        session.remember(SLOT, {"turn": held["turn"] + 1, "told": [], "trouble": str(error)})
        return
    results, cells = plural(opened.fresh, "new result"), plural(opened.cells, "new cell")
    told = [f"Opened: {results}, {cells}. The studies are listed above."]
    if opened.other_program is not None:
        told.append(f"It was made by program {opened.other_program}; this is another one.")
    if opened.away:
        told.append(
            f"Not on this computer: {', '.join(opened.away)}. Pages show what was carried; nothing new can be computed "
            "about it until the model is here."
        )
    session.remember(SLOT, {"turn": held["turn"] + 1, "told": told, "trouble": None})


def models() -> list[str]:
    """The models that are known from bundles alone."""
    return list(session.client().carried())


def texts(model: str) -> dict[str, str]:
    """The texts of such a model, as shown -> as a TEXT name; none for a model that is here."""
    return session.client().carried().get(model, {})
