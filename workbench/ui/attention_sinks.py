"""Sinks on the Attention page: which tokens they are, what quantizing does to them, what each token's damage weighs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.figures.attention import by_layer
from workbench.ui import controls, present, rows
from workbench.ui.attention import sinks_of
from workbench.ui.attribution import numbered
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, visible
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown
from workbench.ui.tokens import token_strip


def limit_choice() -> float | None:
    """Draw the limit of phi; None for the usual one."""
    given = controls.number(
        "Sinks are tokens with phi above",
        0.0,
        key="limit",
        low=0,
        high=1000,
        step=0.5,
        width=220,
        help="0: five times the median of the layer's tokens, and at least 5. Published work on large models uses 20.",
    )
    return given or None


def leave_out_choice(shown: Shown | None) -> bool:
    """Draw the switch that leaves the sinks of each layer out of maps and strips."""
    found = bool(shown and sinks_of(shown))
    told = "Each layer's own sinks; what is left adds up to one again." if found else "This prompt has none."
    return controls.toggle("Leave out sinks", key="no_sinks", disabled=not found, help=told) and found


def sinks_in(shown: Shown, layer: int) -> list[int]:
    """Positions of the sinks of one layer."""
    frame = shown.tables["attention_tokens"]
    places = zip(frame["block"].tolist(), frame["position"].tolist(), frame["sink"].tolist(), strict=True)
    return [position for block, position, sink in places if sink and block == layer]


def sink_sentence(shown: Shown) -> str:
    """Which tokens are sinks, or how far the nearest is from being one; safe in Markdown."""
    tokens, found = shown.document["tokens"], sinks_of(shown)
    if found:
        told = ", ".join(f"“{visible(tokens[position])}” (token {position + 1})" for position in found[:5])
        rest = f" and {len(found) - 5} more" if len(found) > 5 else ""
        return f"{plural(len(found), 'token is a sink', 'tokens are sinks')} in some layer: {markdown(told + rest)}."
    layers = shown.tables["attention_layers"]
    nearest = rows.largest(layers.assign(share=layers["phi"] / layers["limit"]), "share")
    return (
        f"No token of this prompt is a sink: the largest phi beside its limit is {number(nearest['phi'])} of "
        f"{number(nearest['limit'])}, in layer {nearest['block']}. Shown instead is the first token, where sinks are "
        "usually found."
    )


def draw_layers(full: Shown, quantized: Shown | None) -> None:
    """Attention on the watched tokens and the largest phi, by layer, in both models."""
    column = "mean_sink_share" if sinks_of(full) else "mean_first_share"
    name = "share of attention on sinks" if sinks_of(full) else "share of attention on the first token"
    share, phi = (beside(full, quantized, one) for one in (column, "phi"))
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**{name.capitalize()}**")
        _draw_lines(share, name, "sink-share")
    with right:
        st.markdown("**Largest phi** of any token")
        _draw_lines(phi, "phi", "sink-phi")


def _draw_lines(frame: pd.DataFrame, unit: str, key: str) -> None:
    most = rows.largest(frame, "full")
    told = (
        f"{unit.capitalize()} in {plural(len(frame), 'layer')}; most in layer {most['block']}, {number(most['full'])}"
    )
    told += f" in full precision and {number(most['quantized'])} quantized." if "quantized" in frame else "."
    shown = frame if unit == "phi" else frame.drop(columns="limit")
    present.chart(
        drawing(by_layer, frame, unit=unit, limits=unit == "phi"),
        alt=told,
        key=key,
        table_of=shown.rename(columns={"block": "layer"}),
        file_name=f"{key}.csv",
    )


def beside(full: Shown, quantized: Shown | None, column: str) -> pd.DataFrame:
    """A column of table `attention_layers` in both models: block, full, quantized where there is one, limit."""
    layers = full.tables["attention_layers"]
    frame = pd.DataFrame({"block": layers["block"], "full": layers[column], "limit": layers["limit"]})
    if quantized is None or len(quantized.tables["attention_layers"]) != len(frame):
        return frame
    return frame.assign(quantized=quantized.tables["attention_layers"][column].to_numpy())


def draw_repair(quantized: Shown) -> None:
    """How much of the damage goes when one token's states are kept as the full model has them."""
    document, frame = quantized.document, quantized.tables["repair"]
    tokens, damage, held = document["tokens"], document["kl"], document["repair"]
    if damage <= 0:
        return
    shares = [1 - float(kept) / damage for kept in frame["kl_kept"]]
    watched = "the sinks" if sinks_of(quantized) else "the first token"
    best = max(range(len(shares)), key=shares.__getitem__)
    token_strip(
        tokens,
        shares,
        key="strip-repair",
        label="Tokens by the damage that goes when they are kept exact",
        ends=("keeping it exact makes it worse", "keeping it exact mends"),
    )
    st.write(
        f"Quantizing moves the prediction of the next token by {number(damage)} nats (KL to the full model). Keeping "
        f"{watched} exact leaves {number(held['kl'])}, {_mended(1 - held['kl'] / damage)}; keeping "
        f"“{markdown(visible(tokens[best]))}” (token {best + 1}) exact leaves "
        f"{number(float(frame['kl_kept'].iloc[best]))}, {_mended(shares[best])}."
    )
    present.table(numbered(frame.assign(mended=shares)), key="repair-table", file_name="attention-repair.csv")


def _mended(share: float) -> str:
    return f"{percent(share)} less" if share >= 0 else f"{percent(-share)} more"
