"""The pages in their order, and the guard that a page file starts with.

On a server that nobody has visited yet, Streamlit runs a deep-linked file of a folder called `pages/` alone, without
`app.py`: no page titles, no model bar. A page therefore starts with `guard()`, which declares the navigation and runs
again; that second run goes through `app.py` to the same page. The flag that tells is private to Streamlit; a test
opens a deep link on a cold server and fails should it change.
"""

from __future__ import annotations

import streamlit as st
from streamlit.navigation.page import Page
from streamlit.runtime.pages_manager import PagesManager

TITLES = {
    "overview": "Overview",
    "demo": "Demo",
    "weight_salience": "Weight salience",
    "input_attribution": "Input attribution",
    "attention": "Attention",
    "reasons": "Reasons under quantization",
    "layer_error": "Layer error",
    "metric_court": "Which metric to believe",
    "trade_off": "Trade-off",
    "bit_allocation": "Bit allocation",
    "jobs": "Jobs",
}
"""File stem and URL path of each page -> its title, in the order of the menu."""


def page(stem: str) -> Page:
    """The page of a file stem."""
    return st.Page(f"pages/{stem}.py", title=TITLES[stem], url_path=stem, default=stem == "overview")


def pages() -> list[Page]:
    """All pages, for `st.navigation`."""
    return [page(stem) for stem in TITLES]


def pages_go_through_app() -> None:
    """Tell Streamlit that `app.py` declares the pages, before anybody visits; for a server started from code."""
    PagesManager.uses_pages_directory = False


def guard() -> None:
    """Hand over to `app.py` when this page's file was started on its own."""
    if PagesManager.uses_pages_directory:
        st.navigation(pages())
        st.rerun()
