"""The part "Take the scores with you": files of the scores, of every channel and of a mask of the top weights."""

from __future__ import annotations

import streamlit as st

from workbench.ui import choices, controls, defaults, present, study
from workbench.ui.defaults import Question
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, size
from workbench.ui.study import Shown

SCOPES = {"matrix": "each matrix", "row": "each row", "global": "the whole model"}
FILES = {
    "scores.safetensors": ("Scores (safetensors)", "a tensor a matrix, under the name of the weight"),
    "mask.safetensors": ("Mask (safetensors)", "bool tensors, true for the top weights"),
}


def draw(asked: Question) -> None:
    """The choice of the mask, the study that writes the files, and the buttons that hand them over.

    Args:
        asked: the question `salience` that the page stands on.
    """
    metric = asked[1]["metric"]
    grain = choices.described("salience", metric)["traits"].get("granularity", "element")
    percentage, scope = defaults.TOP * 100, "matrix"
    if grain != "matrix":
        offered = [name for name in SCOPES if grain == "element" or name != "row"]
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            about = "How many of the scores the mask marks."
            percentage = controls.number("Mask: the top %", percentage, key="mask", low=0.01, high=99.0, help=about)
            scope = controls.segments("of", offered, "matrix", key="of", show=SCOPES.__getitem__)
    exported = study.study(
        *defaults.salience_export(asked, top=round(percentage / 100, 6), mask_scope=scope),
        label="scores and mask as files",
        slot="export",
        estimate="as long as the metric itself",
    )
    if exported:
        with exported:
            _draw_files(exported)


def _draw_files(exported: Shown) -> None:
    document = exported.document
    with st.container(horizontal=True, gap="medium"):
        for name, (label, about) in FILES.items():
            if name in document["files"]:
                st.download_button(
                    f"{label}, {size(document['files'][name])}",
                    lambda name=name: exported.result.file(name),
                    f"{document['metric']}-{name}",
                    "application/octet-stream",
                    key=f"export-{name}",
                    on_click="ignore",
                    icon=":material/download:",
                    help=about,
                )
    mask = document["mask"]
    if mask is not None:
        st.caption(
            f"The mask marks {mask['kept']:,} of {mask['of']:,} scores of {markdown(document['metric'])}: the top "
            f"{percent(mask['top'])} of {SCOPES[mask['scope']]}, by size and rounded up. At least one stays in each, "
            f"which makes {number(100 * mask['kept'] / mask['of'])} %."
        )
    present.table(
        exported.tables["scores"],
        key="export-scores",
        file_name=f"{document['metric']}-channels.csv",
        label="Every channel's score: a row an input channel, the sum over its weights",
    )
