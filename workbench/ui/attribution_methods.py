"""Which methods are asked: one in detail and others beside it, each with its options and what it will take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from workbench.ui import address, choices, controls, defaults, method_options, session
from workbench.ui.attribution_cost import expected
from workbench.ui.defaults import Spec
from workbench.ui.escape import markdown

MAIN, BESIDE = "method", "beside"
"""Keys of the two controls."""


def method_choice(prompt: str) -> dict[str, Spec]:
    """Draw the choice; returns method -> its options, the one in detail first."""
    main, options = choices.method("attribution", MAIN, default=defaults.METHOD, label="Method in detail")
    offered = session.descriptions("attribution")
    others = controls.several(
        "Other methods beside it",
        list(offered),
        [name for name in defaults.BESIDE if name in offered],
        key=BESIDE,
        help="One strip each. Different methods answer slightly different questions.",
    )
    beside = [name for name in others if name != main]
    methods = {main: options, **method_options.folded_together([offered[name] for name in beside])}
    _draw_costs(methods, prompt)
    return methods


def _draw_costs(methods: dict[str, Spec], prompt: str) -> None:
    """What each map will take, where that can be told."""
    costs = {name: expected(name, options, prompt) for name, options in methods.items()}
    lines = [f"{markdown(name)}: {cost.words}" for name, cost in costs.items() if cost is not None]
    if lines:
        st.caption("Each map takes:  \n" + "  \n".join(lines))


def draw_caveat(name: str) -> None:
    """What a method says of its own limits."""
    note = choices.described("attribution", name)["note"]
    if note:
        st.caption(markdown(note))


def offer_detail(name: str, main: str, others: list[str]) -> None:
    """Draw the button that puts a method in the place of the one in detail."""
    st.button(
        "Look at this method in detail",
        key=f"swap-{name}",
        icon=":material/swap_vert:",
        type="tertiary",
        on_click=_swap,
        args=(name, main, others),
    )


def _swap(name: str, main: str, others: list[str]) -> None:
    address.put(MAIN, name)
    address.put(BESIDE, [main if one == name else one for one in others])


def facts(methods: Mapping[str, Spec]) -> dict[str, Any]:
    """Options and papers of the methods, for the line that says where a result comes from."""
    told = {name: choices.described("attribution", name) for name in methods}
    papers = {name: one["reference"] for name, one in told.items() if one["reference"]}
    options = {name: options for name, options in methods.items() if options}
    return {
        "options": options,
        "papers": "; ".join(f"{name}: {paper}" for name, paper in papers.items()),
    }
