"""The controls of a method's own options, drawn from what the method says of them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from workbench.ui import controls
from workbench.ui.defaults import Spec
from workbench.ui.escape import markdown


def folded(described: Spec) -> Spec:
    """Draw the options of one method, folded away; returns those that differ from their defaults."""
    if not described["options"]:
        return {}
    with st.expander(f"Settings of {markdown(described['name'])}"):
        return draw(described)


def folded_together(described: Sequence[Spec]) -> dict[str, Spec]:
    """Draw the options of several methods in one folded place; name -> those that differ from their defaults."""
    found = {one["name"]: {} for one in described}
    having = [one for one in described if one["options"]]
    if not having:
        return found
    with st.expander("Settings of " + ", ".join(markdown(one["name"]) for one in having)):
        for one, tab in zip(having, st.tabs([markdown(one["name"]) for one in having]), strict=True):
            with tab, st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
                found[one["name"]] = draw(one, width=200)
    return found


def draw(described: Spec, **extra: object) -> Spec:
    """Draw the options of one method; returns those that differ from their defaults."""
    values = {option["name"]: controls.option(option, described["name"], **extra) for option in described["options"]}
    return {one["name"]: values[one["name"]] for one in described["options"] if values[one["name"]] != one["default"]}
