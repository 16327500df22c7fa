"""A plan in other tools' words: a text a tool, its download, and what the tool cannot carry."""

from __future__ import annotations

import streamlit as st

from workbench.allocation.export import TARGETS, export
from workbench.allocation.plan import Plan
from workbench.errors import WorkbenchError
from workbench.ui import controls
from workbench.ui.bench import Bench
from workbench.ui.escape import markdown, sentence

RESOLVING = "llama.cpp"
"""The tool whose types have sizes of their own, so that a budget can be solved again with them."""

LINES = 40
"""So much of a text is shown before it is downloaded."""

LANGUAGES = {"application/json": "json", "application/yaml": "yaml", "text/x-python": "python"}


def draw_exports(plan: Plan, bench: Bench | None) -> None:
    """The choice of a tool, its text with what is lost, and the download; only the chosen text is made."""
    st.markdown("**Hand it to another tool**")
    target = controls.segments("Tool", list(TARGETS), next(iter(TARGETS)), key="tool")
    again = False
    if target == RESOLVING and bench is not None:
        about = "Its types hold other sizes than the plan's grids: the budget is solved anew from the costs above."
        again = controls.toggle("Solve the budget again with its own sizes", key="resolve", help=about)
    try:
        found = export(plan, target, cells=bench.cells if again and bench is not None else None)
    except WorkbenchError as error:
        st.warning(f"{markdown(target)} cannot be told this plan: {sentence(str(error))}.", icon=":material/block:")
        return
    st.download_button(
        f"Download for {markdown(target)}: {markdown(found.file)}", found.text.encode("utf-8"), found.file, found.mime,
        key=f"export-{target}", on_click="ignore", icon=":material/download:",
    )  # fmt: skip
    if found.losses:
        st.caption("What this does not carry:")
        st.markdown("\n".join(f"- {sentence(loss)}" for loss in found.losses))
    else:
        st.caption("Nothing of the plan is lost.")
    lines = found.text.splitlines()
    with st.expander(f"{TARGETS[target].what}, {len(lines):,} lines"):
        st.code("\n".join(lines[:LINES]) + ("\n…" if len(lines) > LINES else ""), LANGUAGES.get(found.mime))
