"""The Demo page as one file for somebody who was not there: the same report as `workbench report` writes."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import streamlit as st

from workbench import __version__
from workbench.ui import controls, defaults
from workbench.ui.defaults import Texts
from workbench.ui.study import Shown, study
from workbench.ui.words import value_words

Document = Mapping[str, Any]


def section(shown: Shown, texts: Texts) -> None:
    """What a report needs besides, asked for on a click, and then the file.

    Nothing is offered for texts of other choices than those on the page.
    """
    if shown.stale:
        return
    st.subheader("For somebody who was not there")
    points = {point["label"]: point for point in shown.spec["choices"]}
    labels = list(points)
    chosen = controls.segments("Report on", labels, labels[-1], key="report") if len(labels) > 1 else labels[0]
    point, model = points[chosen], shown.spec["model"]
    choice = {"scheme": point.get("scheme"), "plan": point.get("plan")}
    asked = {
        "inspected": defaults.inspect(model),
        "evaluated": defaults.evaluate(model, texts, **choice),
        "compared": defaults.tradeoff(model, texts),
    }
    names = {"inspected": "the matrices", "evaluated": "the error of every matrix", "compared": "uniform widths"}
    held = {
        name: study(*question, label=names[name], slot=f"report-{name}", estimate="some seconds for a small model")
        for name, question in asked.items()
    }
    documents = {name: one.document for name, one in held.items() if one is not None and not one.stale}
    if len(documents) < len(asked):
        return
    written = {**shown.document, "choices": [one for one in shown.document["choices"] if one["label"] == chosen]}
    written["choices"].insert(0, shown.document["choices"][0])
    st.download_button(
        "Download the report (HTML)",
        lambda: report(chosen, choice, {**documents, "written": written}, texts),
        "report.html",
        "text/html",
        key="report-file",
        on_click="ignore",
        icon=":material/download:",
    )
    st.caption("One page with charts, texts and numbers; it opens in any browser and fetches nothing.")


def report(label: str, choice: Document, documents: Mapping[str, Document], texts: Texts) -> bytes:
    """The file, UTF-8."""
    from workbench.report.findings import Findings  # matplotlib is loaded by a click only
    from workbench.report.page import page

    origin = {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "tool": f"workbench {__version__}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers")},
        "device": documents["written"]["device"]["name"],
        "threads": documents["written"]["device"]["threads"],
        "calibration text": value_words("calibration", texts.calibration),
    }
    return page(Findings(label=label, **choice, **documents, origin=origin)).encode("utf-8")
