"""Two plans side by side, and what differs matrix by matrix."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.allocation.plan import Plan, read_plan
from workbench.figures.allocation import difference_bars
from workbench.ui import present, rows
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, plural
from workbench.ui.plans import Document, difference_table, width_words, widths_of
from workbench.ui.trade_off import Points


def draw(points: Points, labels: tuple[str, str], matrices: list[Document]) -> None:
    """Draw the section; both points must have a plan."""
    one, other = (read_plan(points.plans[label]) for label in labels)
    st.subheader("Two plans side by side")
    for place, label, plan in zip(st.columns(2, gap="large"), labels, (one, other), strict=True):
        with place:
            _draw_side(points, label, plan)
    frame = difference_table(one, other, ("first", "second"))
    if frame.empty:
        st.info("Both plans treat every matrix alike.")
        return
    drawn = changes(one, other, matrices)
    wider, narrower = (sum(sign * change > 0 for change in drawn["change"].tolist()) for sign in (1, -1))
    st.write(f"The second plan treats {plural(len(frame), 'matrix', 'matrices')} otherwise than the first.")
    present.chart(
        drawing(difference_bars, drawn),
        alt=f"Width of every matrix in the second plan minus its width in the first: {wider} are wider, {narrower} "
        "narrower.",
        key="plan-pair",
        table_of=frame,
        file_name="two-plans.csv",
    )


def _draw_side(points: Points, label: str, plan: Plan) -> None:
    row = rows.named(points.frame, "label", label)
    st.markdown(f"**{markdown(label)}**")
    st.write(f"{row['stored_bits']:.3f} stored bits, perplexity {number(row['perplexity'], 4)}; {width_words(plan)}.")


def changes(one: Plan, other: Plan, matrices: list[Document]) -> pd.DataFrame:
    """Columns `matrix`, `block`, `role` and `change`, by how many bits the second plan is wider."""
    first, second = widths_of(one), widths_of(other)
    return pd.DataFrame(
        [
            {**{name: m[name] for name in ("block", "role")}, "matrix": m["name"],
             "change": second[m["name"]] - first[m["name"]]}
            for m in matrices
        ]
    )  # fmt: skip
