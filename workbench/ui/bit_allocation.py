"""The parts of the Bit allocation page: costs, plan, editor (its files and measurement are in `plan_files`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from workbench.allocation.budgets import bits_request
from workbench.allocation.cells import join
from workbench.allocation.plan import Plan, nominal_bits, stored_bits
from workbench.errors import WorkbenchError
from workbench.figures.allocation import bit_bars
from workbench.ui import present, study
from workbench.ui.bench import Bench
from workbench.ui.budget import file_size
from workbench.ui.defaults import Question
from workbench.ui.desk import ORIGINS, Desk
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.mixing import COSTS
from workbench.ui.numbers import number, percent, plural, size
from workbench.ui.plans import Document, method_words, plan_table, width_words
from workbench.ui.study import Shown

ROUNDING = 1e-9
"""A gap below this share is rounding of the solver's sums."""


@dataclass(frozen=True)
class Costs:
    """What matrices cost, and the place on the page that is greyed when that is an answer to other choices."""

    document: Document
    place: Shown


def measured_costs(questions: Mapping[str, Question]) -> Costs | None:
    """Draw the panel of each quantizer's table of costs; returns them joined once all are there."""
    found: list[Shown | None] = []
    for name, question in questions.items():
        alone = len(questions) == 1
        shown = study.study(
            *question,
            label="what each matrix costs at each width" + ("" if alone else f" under {markdown(name)}"),
            slot="cells" if alone else f"cells-{name}",
            estimate="minutes for a small model where each matrix is measured alone, seconds from gradients; if it is "
            "stopped it goes on where it was",
        )
        found.append(shown)
    tables = [shown for shown in found if shown is not None]
    if len(tables) < len(found):
        return None
    try:
        document = join([shown.document for shown in tables]) if len(tables) > 1 else tables[0].document
    except WorkbenchError as error:
        st.info(markdown(f"The tables that are there do not fit together: {error}."), icon=":material/info:")
        return None
    return Costs(document, next((shown for shown in tables if shown.stale), tables[0]))


def draw_plan(desk: Desk, plan: Plan, bench: Bench | None, inspected: Document) -> None:
    """The numbers of the plan and a bar a matrix."""
    _draw_numbers(plan, desk, bench, inspected)
    draw_bars(plan, inspected["matrices"], desk.locks, key="plan-bars")


def draw_bars(plan: Plan, matrices: list[Document], locks: Mapping[str, int], *, key: str) -> None:
    """A bar a matrix, with its table."""
    frame = plan_table(plan, matrices, locks)
    present.chart(
        drawing(bit_bars, frame),
        alt=f"Bits of every matrix in the plan: {width_words(plan)}.",
        key=key,
        table_of=frame,
        file_name="bit-plan.csv",
    )
    mixed = method_words(plan)
    if mixed:
        st.caption(f"This plan mixes quantizers: {markdown(mixed)}. The table says which matrix has which.")


def _draw_numbers(plan: Plan, desk: Desk, bench: Bench | None, inspected: Document) -> None:
    stored = stored_bits(plan)
    columns = st.columns(3)
    columns[0].metric(
        "Stored bits per weight", f"{stored:.3f}", help=f"The codes alone take {number(nominal_bits(plan))} bits."
    )
    about = "The matrices as stored and everything else in 16 bits, without the file's header."
    columns[1].metric("Whole file", size(file_size(stored, inspected)), help=about)
    price = plan.solver.tie_price if plan.solver and desk.origin == "solved" else None
    if price is not None and bench is not None:
        about = "By how much the predicted cost rises because fused matrices must be alike."
        columns[2].metric("Price of the ties", number(price), help=f"{_unit(bench)}. {about}")
    if bench is not None:
        _draw_costs(plan, desk, bench)


def _draw_costs(plan: Plan, desk: Desk, bench: Bench) -> None:
    """What the table says of the plan, of the best uniform one, and of what is proven."""
    columns, stored = st.columns(3), stored_bits(plan)
    columns[0].metric("Predicted cost", number(bench.predicted(plan)), help=f"{_unit(bench)}: {_sum_words(bench)}.")
    asked = bits_request(stored) if desk.request is None else desk.request
    uniform = bench.uniform(asked if asked.bits > stored else bits_request(stored), desk.locks)
    if uniform is not None:
        width = next((one.bits for name, one in uniform.choices.items() if name not in desk.locks), "locked")
        about = f"All free matrices at {width} bits, {number(uniform.stored_bits)} stored: the best within the budget."
        columns[1].metric("With one width for all", number(uniform.value), help=about)
    about = "What is proven: the best plan within the budget is cheaper by no more than this share."
    columns[2].metric("Above the best plan", _gap_words(plan, desk), help=about)


def _sum_words(bench: Bench) -> str:
    shares = bench.cells["by"] in ("joint-path", "second-order")
    return "the sum of the shares of all matrices" if shares else "the sum of what each matrix costs alone"


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
