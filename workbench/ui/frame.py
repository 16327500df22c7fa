"""What surrounds every page: sidebar, jobs badge, plain sentences for what a person can mend."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import Page

from workbench.errors import WorkbenchError, shown
from workbench.ui import address, choices, lasting, memory, session
from workbench.ui.escape import markdown

NAME = "Salience Workbench"
ICON = str(Path(__file__).with_name("icon.png"))
"""A local picture: an icon by name would make the browser ask an outside server for its picture."""

STYLE = """<style>
/* what was computed for other choices is greyed, see workbench.ui.study */
[class*="st-key-stale-"] { opacity: 0.6; filter: grayscale(0.6); border-left: 4px solid; padding-left: 0.75rem; }
/* small print nearly as dark as other text: the theme's own is too pale to be read with ease */
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] * { color: inherit; }
[data-testid="stCaptionContainer"] { opacity: 0.85; }
/* on a narrow screen a row of buttons goes on below: of those that are scrolled out of sight nobody knows */
[data-testid="stButtonGroup"] > [role] { flex-wrap: wrap; overflow-x: visible; }
</style>"""

DARK_STYLE = """<style>
/* the theme writes white on its light blue, which cannot be read */
[data-testid="stBaseButton-primary"], [data-testid="stBaseButton-primary"] * { color: #11161d; }
[data-testid="stMultiSelectTagsContainer"] [data-tag], [data-testid="stMultiSelectTagsContainer"] [data-tag] * {
  color: #11161d; }
</style>"""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
BADGE_POLL = 2.0
IN_VAIN = "model-in-vain"


def configure() -> None:
    """Title, icon and layout of the browser page; before anything else is drawn."""
    st.set_page_config(page_title=NAME, page_icon=ICON, layout="wide")


def draw(page: Page) -> None:
    """Draw the sidebar and run the page; a `WorkbenchError` becomes its one sentence."""
    lasting.begin_run()
    st.html(STYLE + (DARK_STYLE if st.context.theme.type == "dark" else ""))
    address.begin(page.url_path)
    try:
        with st.sidebar:
            choices.model_bar()
            memory.memory_bar()
            badge = st.container()
        _draw_exposure()
        _draw_notice()
        _draw_model_in_vain()
        above = st.empty()
        page.run()
        _draw_refusals(above)
        with badge:
            _draw_badge()
    except session.NotReady as waiting:
        _draw_waiting(str(waiting))
        return  # the address keeps what no control has read yet
    except WorkbenchError as error:
        st.error(markdown(error), icon=":material/error:")
    address.finish()
    lasting.end_run(page.url_path)


def _draw_exposure() -> None:
    """Warn when the server listens for other computers: whoever reaches it can use it."""
    address_of_server = st.get_option("server.address")
    if address_of_server not in LOOPBACK:
        st.warning(
            f"This app listens on {markdown(address_of_server or 'all addresses')} and asks for no password: everybody "
            "who reaches this computer can use it. Let it listen on localhost and come through an SSH tunnel instead.",
            icon=":material/lock_open:",
        )


def _draw_notice() -> None:
    """Say once that the list of jobs had to be begun anew."""
    notice = session.client().notice()
    if notice:
        st.warning(markdown(notice))
        st.button("Understood", key="dismiss-notice", on_click=session.client().dismiss_notice)


def _draw_model_in_vain() -> None:
    """Say that the address names a model that is not offered, for as long as another one stands in for it."""
    wanted, offered = address.asked("model"), choices.models()
    if wanted is not None or address.turned():
        strange = wanted is not None and wanted not in offered
        session.remember(IN_VAIN, {"wanted": wanted, "instead": choices.model()} if strange else None)
    held = session.recall(IN_VAIN)
    if held and held["instead"] == choices.model():
        told = (
            f"The address asks for model {shown(held['wanted'])}, which is not offered here (a model is a folder with "
            f"a config.json); choose one of: {', '.join(offered)}. This page is about {held['instead']}."
        )
        st.warning(markdown(told), icon=":material/help:")


def _draw_refusals(place: DeltaGenerator) -> None:
    """Say which values of the address no control offers, and what stands there instead."""
    strange = {key: one for key, one in address.refused().items() if key != "model"}  # the model has its own sentence
    told = [
        f"The address asks for {key} {shown(one.asked)}, which is not offered here; {shown(one.instead)} is shown."
        for key, one in strange.items()
    ]
    if told:
        place.warning(markdown(" ".join(told)), icon=":material/help:")


def _draw_badge() -> None:
    counts = session.client().busy()
    st.fragment(_badge, run_every=BADGE_POLL if counts.running or counts.queued else None)()


def _badge() -> None:
    counts = session.client().busy()
    if counts.running or counts.queued:
        words = f"{counts.running} running, {counts.queued} waiting"
        st.badge(words, icon=":material/progress_activity:", color="blue")
    else:
        st.caption("No study is running.")


def _draw_waiting(sentence: str) -> None:
    trouble = session.client().trouble()
    if trouble:
        st.error(f"The worker could not start: {markdown(trouble)}", icon=":material/error:")
        return
    st.info(f"{sentence} This takes some seconds.", icon=":material/hourglass_empty:")
    st.skeleton(height=300)
    st.fragment(_wait_for_methods, run_every=1.0)()


def _wait_for_methods() -> None:
    if session.client().methods() or session.client().trouble():
        st.rerun()
