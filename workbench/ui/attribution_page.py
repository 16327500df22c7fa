"""The Input attribution page, part by part: the method in detail, others beside it, sums, the trial."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from workbench.ui import (
    attribution,
    attribution_ablation,
    attribution_cost,
    attribution_methods,
    attribution_spans,
    attribution_trial,
    controls,
    present,
    study,
)
from workbench.ui.attribution import View
from workbench.ui.attribution_case import Case
from workbench.ui.attribution_units import SIZES
from workbench.ui.defaults import scheme_label
from workbench.ui.study import Shown
from workbench.ui.tokens import Span, latest_strip

Maps = dict[str, Shown]
"""Name of a map, such as `occlusion, quantized` -> the map."""

Chosen = Mapping[str, Span | None]
"""Key of a strip -> the tokens that are chosen in it."""


def view_choice() -> View:
    """Draw what one button of a strip holds, and what is marked."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        size = controls.segments("Scores of", list(SIZES), "token", key="size", show=SIZES.__getitem__)
        marked = attribution_spans.spans_choice(
            "Marked tokens",
            key=attribution_spans.MARKED,
            placeholder="5-7, 12",
            help="What you think should count, by token numbers. Or choose tokens in a strip and mark them.",
            width=260,
        )
    return View(size, tuple(marked))


def ask_all(case: Case) -> Maps:
    """Ask for the maps of the method in detail, full and quantized, and draw what becomes of them."""
    found = {case.main: case.ask(case.main, slot="full")}
    found[f"{case.main}, quantized"] = case.ask(case.main, slot="quantized", quantized=True)
    return {name: shown for name, shown in found.items() if shown}


def draw_detail(case: Case, maps: Maps) -> Chosen:
    """The method in detail: full model, quantized model, what changed; returns what is chosen in each strip."""
    full, quantized = maps.get(case.main), maps.get(f"{case.main}, quantized")
    limit, chosen = attribution.strip_limit(full, quantized, view=case.view), {}
    draw = {"limit": limit, "view": case.view}
    if full:
        name = f"{case.main}, full precision"
        chosen["strip-full"] = attribution.draw_model(full, name=name, key="strip-full", **draw)
        attribution_methods.draw_caveat(case.main)
    if quantized:
        name = f"{case.main}, quantized: {scheme_label(quantized.spec['scheme'])}"
        chosen["strip-quantized"] = attribution.draw_model(quantized, name=name, key="strip-quantized", **draw)
    if full and quantized and attribution.comparable(full, quantized):
        chosen["strip-difference"] = attribution.draw_difference(full, quantized, **draw)
        attribution.draw_comparison(full, quantized, case.view)
    return chosen


def draw_others(case: Case, first: Maps) -> tuple[Maps, Chosen]:
    """A strip for each method beside the one in detail; returns their maps and what is chosen in each strip.

    They wait for a map of the method in detail, so that it comes first and what is wrong is told once.
    """
    maps: Maps = {}
    chosen: dict[str, Span | None] = {}
    if not first:
        st.caption("They are asked once the map above is there.")
        return maps, chosen
    for name in case.others:
        with st.container(key=f"other-{name}", gap="small"):
            shown = case.ask(name, slot=f"beside-{name}")
            if shown is None:
                continue
            maps[name] = shown
            key = f"strip-{name}"
            chosen[key] = attribution.draw_model(shown, name=name, key=key, limit=None, view=case.view)
            attribution_methods.draw_caveat(name)
            attribution_methods.offer_detail(name, case.main, case.others)
    return maps, chosen


def draw_attention(case: Case, maps: Maps) -> None:
    """The warning beside each map that is made of attention, with what replacing tokens does."""
    for name in case.methods:
        if name in maps and attribution_ablation.reads_attention(name):
            st.markdown(f"**{name} beside what replacing tokens does**")
            ablation = case.ask(attribution_ablation.ABLATION, slot="ablation")
            attribution_ablation.draw(name, maps[name], ablation)


def draw_chosen(chosen: Chosen, maps: Maps, key: str) -> None:
    """The tokens that were chosen last, when that was in one of these strips."""
    latest = latest_strip()
    span = chosen.get(latest) if latest else None
    if span:
        attribution_spans.draw_chosen(span, maps, key=key)


def draw_trial(case: Case) -> None:
    """The trial of all methods: its choices, its button, what it found."""
    trial = attribution_trial.trial_choice()
    shown = study.study(
        *case.trial(trial, case.view.marked),
        label="how far the maps can be believed",
        slot="trial",
        estimate=attribution_cost.trial_words(case.methods, case.prompt, trial.checks),
    )
    if shown:
        with shown:
            attribution_trial.draw(shown)


def draw_provenance(case: Case) -> None:
    """Where the maps come from."""
    told = attribution_methods.facts(case.methods)
    present.provenance({"model": case.model, "methods": ", ".join(case.methods), **told})
