"""What becomes of a plan: its files, another file in its place, and what it was measured to cost."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.allocation.build import with_result
from workbench.allocation.plan import MAX_BYTES, Plan, dumps, read_plan
from workbench.ui import plan_exports, present
from workbench.ui.bench import Bench
from workbench.ui.desk import ORIGINS, Desk
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.plans import Document, difference_table
from workbench.ui.study import Shown

FILE = "bit-plan.json"


def draw_files(desk: Desk, inspected: Document, bench: Bench | None) -> None:
    """Download of the plan, its text for other tools, upload of another one, and what the last change changed."""
    left, right = st.columns(2, gap="large")
    plan = desk.plan
    with left:
        if desk.text is not None:
            st.markdown("**Take it with you**")
            st.download_button(
                "Download the plan (JSON)", desk.text.encode("utf-8"), FILE, "application/json",
                key="plan-download", on_click="ignore", type="primary", icon=":material/download:",
            )  # fmt: skip
            st.caption("`workbench evaluate MODEL --plan FILE` measures it; its JSON Schema comes with the program.")
    with right:
        key = f"plan-upload-{desk.turn}"
        st.file_uploader(
            "Bring one back, or bring one from another tool", type=["json", "txt"], key=key, max_upload_size=1,
            on_change=_take_upload, args=(key, desk, inspected),
            help="A plan of ours; names and widths by hand (JSON), as auto-round's layer_config; a GPTQModel "
            f"quantize_config; llama.cpp's tensor-type list. For this model, at most {MAX_BYTES:,} bytes; it takes the "
            "place of the current plan.",
        )  # fmt: skip
    if desk.told:
        st.info("\n\n".join(markdown(one) for one in desk.told), icon=":material/translate:")
    former = desk.former
    if former is not None and plan is not None:
        _draw_difference(difference_table(former, plan), ORIGINS[desk.origin])
    if plan is not None:
        plan_exports.draw_exports(plan, bench)


def _take_upload(key: str, desk: Desk, inspected: Document) -> None:
    file = st.session_state[key]
    if file is not None:
        desk.upload(file.getvalue(), inspected)


def _draw_difference(frame: pd.DataFrame, origin: str) -> None:
    if frame.empty:
        st.success(f"The plan that was {origin} treats every matrix as the former one did.", icon=":material/check:")
        return
    st.info(
        f"The plan that was {origin} treats {plural(len(frame), 'matrix', 'matrices')} otherwise than the former one."
    )
    present.table(frame, key="plan-difference", file_name="plan-difference.csv", label="What changed", expanded=True)


def draw_measured(measured: Shown, plan: Plan, bench: Bench | None) -> None:
    """What the plan costs on the evaluation text, beside what was predicted for the plan that was measured."""
    document = measured.document
    columns = st.columns(4)
    predicted = _predicted_loss(read_plan(measured.spec["plan"]), bench)
    columns[0].metric("Predicted rise of the loss", number(predicted), help="Nats a token, calibration text.")
    error = document["delta_standard_error"]
    columns[1].metric(
        "Measured rise of the loss",
        number(document["delta_loss"]),
        help=f"Nats a token, evaluation text; standard error {number(error)}, paired over windows.",
    )
    columns[2].metric(
        "Perplexity",
        number(document["perplexity"], 4),
        help=f"Full model: {number(document['reference']['perplexity'], 4)}.",
    )
    columns[3].metric("Same likeliest token", percent(document["top1_agreement"]))
    st.write(verdict(predicted, document["delta_loss"], error))
    present.table(
        measured.tables["matrices"],
        key="measured-table",
        file_name="plan-errors.csv",
        label="The errors of every matrix",
    )
    if not measured.stale:
        st.download_button(
            "Download the plan with what was measured",
            lambda: dumps(with_result(plan, document)).encode("utf-8"),
            FILE,
            "application/json",
            key="measured-download",
            on_click="ignore",
            icon=":material/download:",
        )


def _predicted_loss(plan: Plan, bench: Bench | None) -> float | None:
    """The sum of what each matrix adds to the loss; None where the table prices something else."""
    return bench.predicted(plan) if bench is not None and bench.sums_loss else None


def verdict(predicted: float | None, measured: float | None, error: float | None) -> str:
    """Prediction against measurement in a sentence."""
    if measured is None:
        return "The loss of this plan is not finite: it does not work."
    if predicted is None or error is None:
        return f"Measured: {number(measured, sign=True)} nats a token."
    gap = measured - predicted
    if abs(gap) <= 2 * error:
        return (
            f"The prediction holds: it is within two standard errors ({number(2 * error)} nats) of what was measured."
        )
    side = "more" if gap > 0 else "less"
    return (
        f"The plan costs {number(abs(gap))} nats {side} than predicted. Sums fail here: where few bits are left, "
        "errors of matrices meet, and no sum over matrices is the whole truth. The two texts differ, too."
    )
