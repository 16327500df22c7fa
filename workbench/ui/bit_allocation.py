"""The parts of the Bit allocation page: budget, plan, editor (its files and measurement are in `plan_files`)."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from workbench.allocation.plan import Plan, nominal_bits, stored_bits
from workbench.errors import WorkbenchError
from workbench.figures.allocation import bit_bars
from workbench.ui import address, controls, present, session
from workbench.ui.desk import Desk
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural
from workbench.ui.plans import Bench, Document, plan_table

COSTS = {"loss": "rise of the loss", "kl": "divergence from the full model", "output-error": "output error"}
WAYS = {"isolated": "each matrix alone", "spared": "all but this one"}
ORIGINS = {"solved": "found by the solver", "by hand": "set by hand", "uploaded": "uploaded"}
STEP = 0.05
TYPED = "budget-typed"
ROUNDING = 1e-9
"""A gap below this share is rounding of the solver's sums."""


def cost_choice() -> tuple[str, str]:
    """Draw what a matrix is priced by; returns `measure` and `by` of the sensitivity study."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        measure = controls.select(
            "Cost of a matrix", list(COSTS), "loss", key="measure", show=COSTS.__getitem__, width=260
        )
        by = controls.select("Measured with", list(WAYS), "isolated", key="by", show=WAYS.__getitem__, width=220)
    return measure, by


def budget_choice(bench: Bench) -> float:
    """Draw the slider within what is possible, and a box for an exact number; returns the budget."""
    low, high = bench.budgets
    if low == high:
        st.info(f"All matrices have one width, so that the plan takes {number(low)} stored bits whatever the budget.")
        return low
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    with left:
        about = "Mean over all weights, scales and zero points included."
        budget = controls.slider(
            "Budget: stored bits per weight",
            bench.usual_budget,
            key="budget",
            low=low,
            high=high,
            step=STEP,
            help=about,
        )
    with right:
        st.number_input(
            "Or type it", value=None, step=STEP, format="%.4f", key=TYPED, placeholder=f"{budget:.4g}",
            on_change=_take_typed, args=(bench,),
        )  # fmt: skip
    refusal = session.recall(TYPED)
    if refusal:
        st.error(markdown(refusal), icon=":material/error:")
    return budget


def _take_typed(bench: Bench) -> None:
    typed = st.session_state[TYPED]
    session.remember(TYPED, None)
    if typed is None:
        return
    try:
        bench.check_budget(float(typed))
    except WorkbenchError as error:
        session.remember(TYPED, f"The budget stays as it was: {error}.")
        return
    address.put("budget", float(typed))
    st.session_state[TYPED] = None


def draw_plan(desk: Desk, plan: Plan, bench: Bench | None, matrices: list[Document]) -> None:
    """The numbers of the plan and a bar a matrix."""
    _draw_numbers(plan, desk, bench)
    frame = plan_table(plan, matrices, desk.locks)
    counts = frame["bits"].value_counts().sort_index()
    words = ", ".join(f"{plural(int(count), 'matrix', 'matrices')} at {bits} bits" for bits, count in counts.items())
    present.chart(
        bit_bars(frame),
        alt=f"Bits of every matrix in the plan: {words}.",
        key="plan-bars",
        table_of=frame,
        file_name="bit-plan.csv",
    )


def _draw_numbers(plan: Plan, desk: Desk, bench: Bench | None) -> None:
    columns = st.columns(4)
    about = f"The codes alone take {number(nominal_bits(plan))} bits."
    columns[0].metric("Stored bits per weight", f"{stored_bits(plan):.3f}", help=about)
    if bench is None:
        return
    predicted, uniform = bench.predicted(plan), bench.uniform(max(stored_bits(plan), _asked(plan)))
    about = f"{_unit(bench)}: the sum of what each matrix costs alone."
    columns[1].metric("Predicted cost", number(predicted), help=about)
    if uniform is not None:
        width = next(iter(uniform.choices.values())).bits
        stored = number(uniform.stored_bits)
        about = f"All matrices at {width} bits, {stored} stored: the best uniform plan within the budget."
        columns[2].metric("With one width for all", number(uniform.value), help=about)
    about = "What is proven: the best plan within the budget is cheaper by no more than this share."
    columns[3].metric("Above the best plan", _gap_words(plan, desk), help=about)


def _asked(plan: Plan) -> float:
    return plan.budget.requested if plan.budget.kind == "bits_per_weight" else 0.0


def _unit(bench: Bench) -> str:
    measure = bench.cells["measure"]
    return f"{COSTS[measure].capitalize()}{'' if measure == 'output-error' else ', nats a token'}"


def _gap_words(plan: Plan, desk: Desk) -> str:
    if desk.origin != "solved" or plan.solver is None or plan.solver.mip_gap is None:
        return "not proven"
    gap = plan.solver.mip_gap
    return "0 %, optimal" if gap < ROUNDING else f"≤ {percent(gap)}"


def draw_steps(desk: Desk, solvable: bool) -> None:
    """What the plan is, what went wrong, and, where there is a table of costs, the buttons that make another plan."""
    if desk.trouble:
        st.error(markdown(desk.trouble), icon=":material/error:")
    if desk.text is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(f"This plan was {ORIGINS[desk.origin]}", color="blue")
        if desk.locks:
            st.badge(f"{plural(len(desk.locks), 'matrix', 'matrices')} locked", icon=":material/lock:", color="gray")
        if not solvable:
            return
        st.button(
            "Solve again around the locks", key="solve", icon=":material/refresh:", on_click=desk.wish,
            help="Widths that were set by hand stay where they are locked; the solver chooses the others.",
        )  # fmt: skip
        st.button(
            "Prove optimal", key="prove", icon=":material/verified:", on_click=desk.wish, kwargs={"exact": True},
            help="An integer program (HiGHS); it may take up to ten seconds.",
        )  # fmt: skip


def edit(desk: Desk, bench: Bench, plan: Plan, matrices: list[Document]) -> None:
    """The table of widths and locks that can be changed, with what each width costs beside it."""
    if not bench.knows(plan):
        st.info(
            "This plan has schemes that the table of costs does not hold, so that it cannot be priced or edited "
            "here. It can be measured and downloaded, and the solver can make another one."
        )
        return
    key = f"plan-editor-{desk.turn}"
    base = desk.base(key, key not in st.session_state)
    frame = _editor_frame(bench, base, matrices)
    edited = st.data_editor(
        frame,
        key=key,
        hide_index=True,
        disabled=[name for name in frame.columns if name not in ("bits", "locked")],
        column_config={
            "bits": st.column_config.SelectboxColumn("bits", options=bench.widths, required=True),
            "locked": st.column_config.CheckboxColumn("locked", help="The solver leaves this matrix as it is."),
        },
        alt="Bits of every matrix, to be changed",
    )
    try:
        widths = {name: int(bits) for name, bits in zip(edited["matrix"], edited["bits"], strict=True)}
        desk.edit(bench, widths, {name: widths[name] for name in edited.loc[edited["locked"], "matrix"]})
    except WorkbenchError as error:
        st.error(markdown(f"This change was not taken: {error}."), icon=":material/error:")


def _editor_frame(bench: Bench, base: dict[str, Any], matrices: list[Document]) -> pd.DataFrame:
    frame = pd.DataFrame(
        [{name: one[name] for name in ("block", "role")} | {"matrix": one["name"]} for one in matrices]
    )
    frame["bits"] = [base["widths"][name] for name in frame["matrix"]]
    frame["locked"] = [name in base["locks"] for name in frame["matrix"]]
    costs = bench.costs()
    order = ["block", "role", "bits", "locked", *costs.columns[1:], "matrix"]
    return frame.merge(costs, on="matrix").reindex(columns=order)
