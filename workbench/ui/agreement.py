"""The part "Where metrics agree": every two metrics in a heat map, and one pair's channels of one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
import pandas as pd
import streamlit as st

from workbench.figures.agreement import agreement_map
from workbench.figures.frames import keep
from workbench.figures.scores import metric_scatter
from workbench.ui import compare, controls, picking, present, rows
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown

WHOLE = "the whole model"
VALUES = {"spearman": "rank correlation", "overlap": "overlap of the top 1 %"}
"""Column of table `agreement` -> what it is."""

CLOSE, FAR = 0.95, 0.5
"""Rank correlations above and below which the summary counts pairs; printed beside the counts."""


def draw(shown: Shown, matrix: str | None) -> None:
    """Controls, the heat map, and the pair that is chosen.

    Args:
        shown: the study `agreement`.
        matrix: the matrix that the page looks at; its channels are drawn when the map is of the whole model.
    """
    frame = shown.tables["agreement"]
    names = list(shown.document["metrics"])
    matrices = [str(name) for name in frame["matrix"].dropna().unique()]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        value = controls.segments("Agreement by", list(VALUES), "spearman", key="agree", show=VALUES.__getitem__)
        within = controls.select("Over the weights of", [WHOLE, *matrices], WHOLE, key="within", width=380)
    pairs = pairs_within(frame, within)
    st.write(summary(pairs, names))
    above = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        one = controls.select("One metric", names, _first("pqi", names), key="pair", width=220)
        other = controls.select("Another", names, _first("magnitude", names[::-1]), key="pair2", width=220)
    with above:
        _draw_map(pairs, value, within, (one, other))
    fallback = matrix if matrix in matrices else matrices[0]
    _draw_pair(shown.tables["channels"], pairs, (one, other), within, fallback if within == WHOLE else within)


def pairs_within(frame: pd.DataFrame, within: str) -> pd.DataFrame:
    """The pairs of one matrix, or of the whole model, numbered from 0."""
    mask = frame["matrix"].isna() if within == WHOLE else frame["matrix"] == within
    return keep(frame, mask).drop(columns="matrix").reset_index(drop=True)


def summary(pairs: pd.DataFrame, names: Sequence[str]) -> str:
    """How many pairs agree, and which least; safe in Markdown."""
    known = once(pairs, names).dropna(subset="spearman")
    if known.empty:
        return "No two metrics rank these weights: every score is the same."
    close, far = (known["spearman"] > CLOSE).sum(), (known["spearman"] < FAR).sum()
    least = rows.smallest(known, "spearman")
    return (
        f"Of {plural(len(known), 'pair')} of metrics, {close} have a rank correlation above {CLOSE} and {far} below "
        f"{FAR}. Furthest apart: **{markdown(least['metric'])}** and **{markdown(least['other'])}** with "
        f"{number(least['spearman'], 2)}; of their top 1 %, {percent(least['overlap'])} are the same."
    )


def once(pairs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Every two different metrics in one row."""
    places = {name: place for place, name in enumerate(names)}
    return keep(pairs, [places[a] < places[b] for a, b in zip(pairs["metric"], pairs["other"], strict=True)])


def side_by_side(pairs: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The metrics in an order that puts those that agree next to each other: average linkage of 1 - correlation."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    square = pairs.pivot(index="metric", columns="other", values="spearman").loc[list(names), list(names)]
    apart = 1 - np.nan_to_num(square.to_numpy(dtype=float), nan=0.0)
    if len(names) < 3:
        return list(names)
    upper = np.triu_indices(len(names), 1)
    tree = linkage(np.maximum(apart[upper], 0.0), method="average", optimal_ordering=True)
    return [str(names[int(place)]) for place in leaves_list(tree)]


def _first(wanted: str, names: Sequence[str]) -> str:
    return wanted if wanted in names else names[0]


def _draw_map(pairs: pd.DataFrame, value: str, within: str, chosen: tuple[str, str]) -> None:
    names = list(dict.fromkeys(pairs["metric"]))
    order = side_by_side(pairs, names)
    held = list(zip(pairs["metric"], pairs["other"], strict=True))
    wide = pairs.pivot(index="metric", columns="other", values=value).loc[order, order].reset_index()
    wide.columns.name = None
    known = once(pairs, names).dropna(subset=value)
    middle = number(median(known[value].tolist()), 2) if len(known) else "none"
    picking.chart(
        drawing(agreement_map, pairs, order, value=value, unit=VALUES[value], selected=held.index(chosen)),
        alt=f"{VALUES[value]} of every two of {plural(len(names), 'metric')} over {within}; the median pair has "
        f"{middle}. Click a cell to see the two metrics channel by channel.",
        key="agreement-map",
        places=[{"pair": one, "pair2": other} for one, other in held],
        table_of=wide,
        cell=lambda row, column: {"pair": order[row], "pair2": column if column in order else order[row]},
        file_name="metric-agreement.csv",
    )


def _draw_pair(channels: pd.DataFrame, pairs: pd.DataFrame, pair: tuple[str, str], within: str, matrix: str) -> None:
    """Channels of one matrix by both metrics, and the sentence of how far they agree."""
    frame = channels_of(channels, pair, matrix)
    by_weight = rows.largest(keep(pairs, (pairs["metric"] == pair[0]) & (pairs["other"] == pair[1])), "spearman")
    correlation = compare.rank_agreement(frame["first"].tolist(), frame["second"].tolist())
    one, other = markdown(pair[0]), markdown(pair[1])
    st.write(
        f"**{one} and {other}** put the input channels of {markdown(matrix)} in "
        f"{compare.agreement_words(correlation)} (Spearman's correlation {number(correlation, 2)}). Weight by weight, "
        f"over {markdown(within)}, it is {number(by_weight['spearman'], 2)}, and {percent(by_weight['overlap'])} of "
        "the top 1 % are the same; by chance it would be 1 %."
    )
    positive = bool((frame[["first", "second"]] > 0).to_numpy().all())
    names = list(pair) if pair[0] != pair[1] else [pair[0], f"{pair[0]} again"]
    present.chart(
        drawing(
            metric_scatter,
            frame,
            x=f"{pair[0]}, sum of the channel",
            y=f"{pair[1]}, sum of the channel",
            logarithmic=positive,
        ),
        alt=f"{plural(len(frame), 'input channel')} of {matrix} by {pair[0]} and by {pair[1]}; rank correlation "
        f"{number(correlation, 2)}.",
        key="agreement-pair",
        table_of=frame.drop(columns="group").set_axis(["channel", *names], axis=1),
        file_name="metric-pair.csv",
    )


def channels_of(channels: pd.DataFrame, pair: tuple[str, str], matrix: str) -> pd.DataFrame:
    """Columns `label`, `group`, `first`, `second`: the channels of a matrix by both metrics."""
    mine = keep(channels, channels["matrix"] == matrix)
    first, second = (keep(mine, mine["metric"] == name) for name in pair)
    labels = [f"channel {channel}" for channel in first["channel"]]
    scores = {"first": first["score"].tolist(), "second": second["score"].tolist()}
    return pd.DataFrame({"label": labels, "group": matrix, **scores})
