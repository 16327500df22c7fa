"""The section "What runs here": which kernels take the bits away, why those, and how fast they are on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from workbench.figures.frames import keep
from workbench.figures.speed import bar_name, kernel_bars
from workbench.ui import defaults, present, rows, study
from workbench.ui.defaults import Spec
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural, size
from workbench.ui.study import Shown

FORMATS = {"seconds": "%.3g", "weights_per_second": "%.3g", "bytes_per_second": "%.3g", "share_of_copy": "percent"}


def section(model: str, backend: Mapping[str, str], scheme: Spec, widths: Sequence[int]) -> None:
    """Draw the section; `backend` is what the study on screen ran on."""
    st.subheader("What runs here")
    reason = backend["reason"].removeprefix(f"{backend['name']}: ")
    st.write(
        f"Weights are quantized, packed and measured by the **{backend['name']}** kernels "
        f"({markdown(reason)}). How long a slider has to wait depends on them and on the memory of this "
        "machine, so it can be measured here."
    )
    shown = study.study(
        *defaults.kernel_speed(model, scheme=scheme, widths=widths),
        label="how fast the kernels are on this machine",
        slot="speed",
        estimate="about ten seconds; a busy machine gives slower figures",
    )
    if shown:
        with shown:
            _draw(shown)


def _draw(shown: Shown) -> None:
    document, frame = shown.document, shown.tables["kernel_speed"]
    table = frame[frame["operation"] == "error_table"].iloc[0]
    slowest = rows.largest(keep(frame, frame["operation"] == "quantize"), "seconds")
    weights = plural(int(document["weights"]), "weight")
    matrices = plural(int(document["matrices"]), "matrix", "matrices")
    threads = plural(int(document["threads"]), "thread")
    st.markdown(
        f"All {weights} of {matrices} are quantized to {int(slowest['bits'])} bits in "
        f"**{number(1000 * slowest['seconds'])} ms**, and their errors at all widths are summed in "
        f"**{number(1000 * table['seconds'])} ms**. This machine copies "
        f"**{size(document['copy_bytes_per_second'])}** a second (read and written, "
        f"{markdown(document['device'])}, {threads})."
    )
    best = rows.largest(frame, "share_of_copy")
    present.chart(
        drawing(kernel_bars, frame),
        alt=f"Rate of {plural(len(frame), 'kernel')} as a share of the copy rate. The highest is "
        f"{bar_name(str(best['operation']), best['bits'])} with {percent(best['share_of_copy'])}.",
        key="kernel-bars",
        table_of=frame,
        file_name="kernel-speed.csv",
        formats=FORMATS,
    )
