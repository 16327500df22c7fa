"""The part "What sinks cost": the damage that lies on attention sinks, beside the attention that they draw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.attention import by_layer
from workbench.figures.sink_damage import mass_and_damage
from workbench.ui import defaults, present, rows, study
from workbench.ui.attention import part
from workbench.ui.defaults import Spec, Texts
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, visible
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown

MEASURES = {
    "value": ("Answer", "its log-probability falls by"),
    "loss": ("Prompt", "the loss of its own tokens rises by"),
    "kl": ("Next token", "its prediction moves (KL) by"),
}
"""Part of the study's document -> what it is about, and what quantizing does to it."""

ABOUT = (
    "Tokens that draw much attention are often said to be what quantization breaks. That can be measured: how much of "
    "the damage lies on them, and how much goes when their hidden states are kept as the full model has them."
)


def beside_attention(model: str, prompt: str, scheme: Spec, texts: Texts, maps: Shown | None) -> None:
    """Draw the section on a page that shows the attention of the quantized model; the damage is asked for here."""
    _begin()
    question = defaults.damage_map(model, prompt, scheme=scheme, texts=texts)
    damage = study.study(*question, label="the damage by matrix and token", slot="sink-damage", auto=True)
    _draw(maps, damage, phi=False)


def beside_damage(model: str, prompt: str, scheme: Spec, texts: Texts, damage: Shown | None) -> None:
    """Draw the section on a page that shows the damage; the attention of the quantized model is asked for here."""
    _begin()
    question = defaults.attention_maps(model, prompt, scheme=scheme, texts=texts)
    maps = study.study(*question, label="the attention of the quantized model", slot="sink-maps", auto=True)
    _draw(maps, damage, phi=True)


def _begin() -> None:
    st.subheader("What sinks cost")
    st.write(ABOUT)


def _draw(maps: Shown | None, damage: Shown | None, *, phi: bool) -> None:
    """What there is of both; `phi` also draws how large the sinks are."""
    if maps and maps.document.get("sink_damage"):
        with part("sinks-kept", maps):
            draw_kept(maps.document)
    if not (maps and damage) or maps.document["tokens"] != damage.document["tokens"]:
        return
    with part("sinks-layers", maps, damage):
        if damage.document.get("sinks"):
            _draw_layers(maps, damage, phi=phi)
        else:
            st.info("How the damage lies on sinks is not known for this model, which does not show its attention.")


def draw_kept(document: Mapping[str, Any]) -> None:
    """What is mended by keeping the watched tokens exact: a sentence, and a number for each measure."""
    found = document["sink_damage"]
    st.write(who_sentence(document["tokens"], found))
    for column, (name, (words, does)) in zip(st.columns(len(MEASURES)), MEASURES.items(), strict=True):
        one = found[name]
        column.metric(
            f"{words}: damage that goes",
            percent(one["share"]) if one["share"] is None or one["share"] >= 0 else f"\u2212{percent(-one['share'])}",
            help="Below zero: keeping them exact makes it worse. No number: there is no damage to share out.",
        )
        left = f"{does} {number(one['damage'])} nats, and by {number(one['left'])} when kept exact"
        column.caption(f"{left}; mean of {plural(found['predictions'], 'token')}" if name == "loss" else left)


def who_sentence(tokens: list[str], found: Mapping[str, Any]) -> str:
    """Which tokens are kept exact; safe in Markdown."""
    named = ", ".join(f"“{visible(tokens[place])}” (token {place + 1})" for place in found["watched"][:5])
    rest = f" and {len(found['watched']) - 5} more" if len(found["watched"]) > 5 else ""
    if found["are_sinks"]:
        return f"Kept exact: the {plural(len(found['watched']), 'sink')} of this prompt, {markdown(named + rest)}."
    return f"This prompt has no sink. Kept exact is the first token, {markdown(named)}, where sinks usually are."


def _draw_layers(maps: Shown, damage: Shown, *, phi: bool) -> None:
    sinks, frame = damage.document["sinks"], layers(maps, damage)
    watched = plural(len(sinks["watched"]), "token")
    whose = "sinks" if sinks["are_sinks"] else "the first token"
    st.write(
        f"Of all damage, {percent(sinks['share'])} lies on {whose}; by number ({watched} of "
        f"{len(damage.document['tokens'])}) it would be {percent(sinks['even_share'])}. "
        f"{'They draw' if sinks['are_sinks'] else 'It draws'} {percent(fmean(frame['attention'].tolist()))} of the "
        "attention, the mean over layers."
    )
    most = rows.largest(frame, "damage")
    left, right = st.columns(2, gap="large") if phi else (st.container(), None)
    with left:
        present.chart(
            drawing(mass_and_damage, frame, even=sinks["even_share"]),
            alt=f"Share of attention and of damage on {watched} in {plural(len(frame), 'layer')}. Most damage in layer "
            f"{most['block']}: {number(most['damage'])}, with {number(most['attention'])} of the attention.",
            key="sink-mass",
            table_of=frame.rename(columns={"block": "layer"}),
            file_name="sinks-mass-and-damage.csv",
        )
    if right is not None:
        with right:
            _draw_phi(maps.tables["sink_layers"])


def _draw_phi(table: pd.DataFrame) -> None:
    frame = pd.DataFrame({"block": table["block"], "full": table["full_phi"], "quantized": table["quantized_phi"]})
    most = rows.largest(frame, "full")
    present.chart(
        drawing(by_layer, frame, unit="phi of these tokens"),
        alt=f"Phi of these tokens in {plural(len(frame), 'layer')}; most in layer {most['block']}: "
        f"{number(most['full'])} in full precision, {number(most['quantized'])} quantized.",
        key="sink-damage-phi",
        table_of=table.rename(columns={"block": "layer"}),
        file_name="sinks-phi.csv",
    )


def layers(maps: Shown, damage: Shown) -> pd.DataFrame:
    """A row a layer: share of the attention on the watched tokens, and of the layer's damage that lies on them."""
    attention, watched = maps.tables["sink_layers"], set(damage.document["sinks"]["watched"])
    parts, on, all_of = damage.tables["damage"], defaultdict[int, float](float), defaultdict[int, float](float)
    for block, position, damaged in zip(parts["block"], parts["position"], parts["damage"], strict=True):
        all_of[block] += abs(damaged)
        on[block] += abs(damaged) if position in watched else 0.0
    blocks = attention["block"].tolist()
    shares = [on[block] / all_of[block] if all_of[block] else 0.0 for block in blocks]
    return pd.DataFrame({"block": blocks, "attention": attention["quantized_share"], "damage": shares})
