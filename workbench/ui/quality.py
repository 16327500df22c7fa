"""What the choices of the Layer error page cost the whole model: stored bits against perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from workbench.figures.frames import keep
from workbench.ui import study
from workbench.ui.defaults import Question
from workbench.ui.study import Shown
from workbench.ui.trade_off import draw_chart, draw_noise, readable

ROOM = (0.07, 0.06)
"""What a mark takes of the width and of the height of the drawing."""


def section(question: Question, frame: pd.DataFrame, chosen: str) -> None:
    """Draw the section; `frame` is the table `layer_error` of the same choices, `chosen` the label that is marked."""
    st.subheader("What it costs the model")
    shown = study.study(
        *question,
        label="size and perplexity of each choice",
        slot="quality",
        estimate="some seconds a choice for a small model",
    )
    if shown:
        with shown:
            _draw(shown, frame, chosen)


def _draw(shown: Shown, frame: pd.DataFrame, chosen: str) -> None:
    points = by_quantizer(readable(shown), frame)
    reference = shown.document["reference"]["perplexity"]
    if reference is None or not any(math.isfinite(value) for value in points["perplexity"]):
        st.error("No choice has a finite perplexity on this text, so that there is nothing to draw.")
        return
    draw_chart(points, reference, chosen, key="quality", control="label")
    draw_noise(points, shown.document["text"])


def by_quantizer(points: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The points whose label is in the table of errors, with their quantizer as `kind` and their width as `mark`.

    Where points crowd, only the best of them carries its mark: the others' would cover it.
    """
    known = frame.drop_duplicates("label").set_index("label")
    held = keep(points, [label in known.index for label in points["label"]]).reset_index(drop=True)
    kinds = [str(known.at[label, "quantizer"]) for label in held["label"]]
    widths = [known.at[label, "bits"] for label in held["label"]]
    marks = [kind if pd.isna(bits) else f"{int(bits)} bit" for kind, bits in zip(kinds, widths, strict=True)]
    free = uncrowded(held["stored_bits"].tolist(), [math.log(value) for value in held["perplexity"]])
    return held.assign(kind=kinds, mark=[mark if alone else "" for mark, alone in zip(marks, free, strict=True)])


def uncrowded(across: Sequence[float], up: Sequence[float]) -> list[bool]:
    """Which points have room for a mark, the lowest first; a mark takes `ROOM` of the drawing's width and height."""
    known = [place for place, value in enumerate(up) if math.isfinite(value)]
    width, height = (
        max(part) - min(part) or 1.0 if part else 1.0
        for part in ([across[place] for place in known], [up[place] for place in known])
    )
    taken: list[int] = []
    for place in sorted(known, key=lambda one: up[one]):
        near = [
            one
            for one in taken
            if abs(across[one] - across[place]) < ROOM[0] * width and abs(up[one] - up[place]) < ROOM[1] * height
        ]
        taken += [] if near else [place]
    return [place in taken for place in range(len(up))]
