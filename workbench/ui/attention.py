"""The parts of the Attention page: all heads, one head over the tokens, rollout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from workbench.figures.attention import head_grid, token_map
from workbench.figures.frames import keep
from workbench.ui import controls, picking, present, rows
from workbench.ui.attribution import numbered
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, plotly_text, visible
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown
from workbench.ui.tokens import token_strip

SUMMARIES = {
    "spread": "how many tokens it looks at",
    "distance": "how far back it looks, in tokens",
    "first_share": "share on the first token",
    "sink_share": "share on sinks",
}
"""Column of table `attention_heads` -> what it is."""

POSITIONS = {"last": "the last position", "mean": "all positions, their mean"}
MODELS = {"full": "full precision", "quantized": "quantized"}
MEAN_HEAD = -1
CELLS = 50_000
"""Most cells of a map that are sent to the browser."""


def part(name: str, *results: Shown | None) -> DeltaGenerator:
    """A place for what is drawn of some results, greyed when one of them answers other choices."""
    stale = any(one.stale for one in results if one)
    return st.container(key=f"{'stale' if stale else 'fresh'}-{name}")


def model_choice() -> str:
    """Draw which of the two models is shown in detail."""
    return controls.segments("Model shown", list(MODELS), "full", key="shown", show=MODELS.__getitem__)


def summary_choice(shown: Shown) -> tuple[str, str]:
    """Draw what the grid shows of each head; returns the column of the table and what it is."""
    offered = [name for name in SUMMARIES if name != "sink_share" or sinks_of(shown)]
    with st.container(horizontal=True, gap="medium"):
        summary = controls.segments("Each head by", offered, "spread", key="heads", show=SUMMARIES.__getitem__)
        position = controls.segments("At", list(POSITIONS), "last", key="at", show=POSITIONS.__getitem__)
    return (summary if position == "last" else f"mean_{summary}"), SUMMARIES[summary]


def sinks_of(shown: Shown) -> list[int]:
    """Positions of the sinks."""
    return shown.document["sinks"]["positions"]


def head_choice(shown: Shown) -> tuple[int, int]:
    """Draw the choice of layer and head, at first the head that looks at the fewest tokens; `MEAN_HEAD` is all."""
    sharpest = rows.smallest(shown.tables["attention_heads"], "spread")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        layer = controls.select(
            "Layer", list(range(shown.document["layers"])), int(sharpest["block"]), key="layer", width=160
        )
        head = controls.select(
            "Head",
            [*range(shown.document["heads"]), MEAN_HEAD],
            int(sharpest["head"]),
            key="head",
            show=lambda one: "all heads, their mean" if one == MEAN_HEAD else str(one),
            width=220,
        )
    return layer, head


def draw_grid(shown: Shown, column: str, unit: str, chosen: tuple[int, int]) -> None:
    """One cell a head; a click, or a cell of the table, chooses it."""
    frame = shown.tables["attention_heads"].reset_index(drop=True)
    places = [
        {"layer": int(block), "head": int(head)} for block, head in zip(frame["block"], frame["head"], strict=True)
    ]
    selected = next((at for at, one in enumerate(places) if tuple(one.values()) == chosen), None)
    most, least = rows.largest(frame, column), rows.smallest(frame, column)
    picking.chart(
        drawing(head_grid, frame, value=column, unit=unit, selected=selected),
        alt=f"Of each of {plural(len(frame), 'head')}, {unit}: from {number(least[column])} (layer {least['block']}, "
        f"head {least['head']}) to {number(most[column])} (layer {most['block']}, head {most['head']}).",
        key="head-grid",
        places=places,
        table_of=frame.rename(columns={"block": "layer"}),
        cell=lambda row, _: places[row],
        file_name="attention-heads.csv",
    )


def last_row(shown: Shown, chosen: tuple[int, int], left_out: Sequence[int]) -> list[float]:
    """The last position's attention in the chosen head, or its mean over heads, without the tokens left out."""
    frame = shown.tables["attention_last"]
    frame = keep(frame, frame["block"] == chosen[0])
    if chosen[1] != MEAN_HEAD:
        frame = keep(frame, frame["head"] == chosen[1])
    count = len(shown.document["tokens"])
    sums = [0.0] * count
    for position, share in zip(frame["position"], frame["attention"], strict=True):
        sums[position] += float(share)
    kept = [0.0 if position in left_out else share for position, share in enumerate(sums)]
    return [share / (sum(kept) or 1.0) for share in kept]


def draw_strip(shown: Shown, scores: Sequence[float], *, key: str, label: str) -> None:
    """Shares of the tokens in one strip, and the largest of them in words."""
    tokens = shown.document["tokens"]
    token_strip(tokens, scores, key=key, label=label, signed=False)
    order = sorted(range(len(tokens)), key=lambda place: -scores[place])[:3]
    told = ", ".join(f"“{visible(tokens[place])}” ({percent(scores[place])})" for place in order)
    st.caption(markdown(f"Most of it is on {told}."))


def draw_map(shown: Shown, left_out: Sequence[int]) -> None:
    """The map of one head over the tokens, as many of the last positions as fit."""
    document, frame = shown.document, shown.tables["attention_map"]
    tokens = document["tokens"]
    chosen = (document["layer"], MEAN_HEAD if document["head"] is None else document["head"])
    first = max(0, len(tokens) - CELLS // len(tokens))
    if first:
        frame = keep(frame, frame["position"] >= first)
        st.caption(f"The last {len(tokens) - first} of {len(tokens)} positions are drawn, and what each looks at.")
    frame = without(frame, left_out).reset_index(drop=True)
    most = rows.largest(keep(frame, frame["position"] == len(tokens) - 1), "attention")
    present.chart(
        drawing(token_map, frame, [plotly_text(token) for token in tokens]),
        alt=f"Attention of {place_words(chosen)} over {plural(len(tokens), 'token')}. The last position looks most at "
        f"token {int(most['key']) + 1}, {visible(str(most['key_token']))}: {number(most['attention'])}.",
        key="token-map",
        table_of=_pairs(frame),
        file_name="attention-map.csv",
    )


def _pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Table `attention_map` for people: tokens counted from 1, their blanks visible."""
    looked = {"key number": frame["key"] + 1, "key_token": frame["key_token"].map(visible)}
    return pd.DataFrame(
        numbered(frame).assign(**looked), columns=["token number", "token", "key number", "key_token", "attention"]
    )


def without(frame: pd.DataFrame, left_out: Sequence[int]) -> pd.DataFrame:
    """Table `attention_map` with nothing on some tokens and rows that add up to 1 again; none where nothing is left."""
    if not left_out:
        return frame
    gone, totals = set(left_out), defaultdict[int, float](float)
    pairs = list(zip(frame["position"].tolist(), frame["key"].tolist(), frame["attention"].tolist(), strict=True))
    for position, key, share in pairs:
        totals[position] += 0.0 if key in gone else share
    kept = [
        (0.0 if key in gone else share) / totals[position] if totals[position] > 0 else None
        for position, key, share in pairs
    ]
    return frame.assign(attention=pd.Series(kept, index=frame.index, dtype=float))


def place_words(chosen: tuple[int, int]) -> str:
    """Layer and head in words."""
    layer, head = chosen
    return f"layer {layer}, mean of all heads" if head == MEAN_HEAD else f"layer {layer}, head {head}"
