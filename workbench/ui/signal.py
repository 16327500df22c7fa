"""How the hidden states change from block to block, in the full model and under the choices of the Layer error page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from workbench.figures.frames import keep
from workbench.figures.signal import signal_by_depth
from workbench.ui import defaults, present, rows, study
from workbench.ui.defaults import Spec, Texts
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.layer_error import labels_of, named
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown

SCHEMES_AT_MOST = 16
"""Most lines that the study follows at once."""


def section(model: str, texts: Texts, schemes: Sequence[Spec], chosen: str) -> None:
    """Draw the section; `chosen` is the label whose line is thicker."""
    st.subheader("How the signal travels")
    if len(schemes) > SCHEMES_AT_MOST:
        st.caption(f"The first {SCHEMES_AT_MOST} of {len(schemes)} choices are followed.")
    shown = study.study(
        *defaults.signal(model, texts, schemes=schemes[:SCHEMES_AT_MOST]),
        label="the hidden states behind every block",
        slot="signal",
        estimate="some seconds a choice for a small model",
    )
    if shown:
        with shown:
            _draw(shown, chosen)


def _draw(shown: Shown, chosen: str) -> None:
    frame = shown.tables["signal"]
    labels = labels_of(frame)
    full, quantizers = labels[0], [one["quantizer"] for one in shown.document["schemes"]]
    kinds = dict(zip(labels, [full, *quantizers], strict=True))
    last = keep(frame, (frame["block"] == frame["block"].max()) & (frame["label"] != full))
    worst, best = rows.largest(last, "signal_error"), rows.smallest(last, "signal_error")
    st.write(
        "How far the hidden states behind the last block are from those of the full model, as a share of their mean "
        f"square: from {percent(best['signal_error'])} ({markdown(best['label'])}) to "
        f"{percent(worst['signal_error'])} ({markdown(worst['label'])})."
    )
    present.chart(
        drawing(
            signal_by_depth, frame.assign(kind=[kinds[label] for label in frame["label"]]), full=full, selected=chosen
        ),
        alt=f"Mean square, variance and signal error of the hidden states behind "
        f"{plural(len(set(frame['block'])), 'block')}, in the full model and under "
        f"{plural(len(labels) - 1, 'choice')}: {named(labels[1:])}. The largest signal error behind the last block is "
        f"that of {worst['label']}, {number(worst['signal_error'])}.",
        key="signal",
        table_of=frame,
        file_name="signal.csv",
    )
