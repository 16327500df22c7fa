"""Where the bits should go for a budget: what each matrix costs, a plan, its files, and what measuring says of it."""

import streamlit as st

from workbench.ui import (
    allocation_help,
    bit_allocation,
    budget,
    choices,
    decide,
    defaults,
    guarded,
    mixing,
    plan_files,
    plans,
    present,
    study,
    words,
)
from workbench.ui.bench import Bench
from workbench.ui.desk import Desk
from workbench.ui.navigation import guard

guard()

st.title("Where should the bits go?")
st.write(
    "Not every matrix needs the same width. First, measure what each one costs at each width; then choose a budget, "
    "and the solver spends the bits where they save most. What a plan really costs is measured in the end."
)

model, texts = choices.model(), choices.texts()
mix = mixing.mix_choice()
measure, by = mixing.cost_choice()
inspected = study.study(*defaults.inspect(model), label="the matrices of the model", slot="sizes", auto=True)
costs = bit_allocation.measured_costs(mixing.questions(model, texts, mix, measure=measure, by=by))
if inspected:
    desk, matrices = Desk(model), inspected.document["matrices"]
    bench, request = None, None
    if costs:
        with costs.place:
            st.subheader("The plan")
            limits = mixing.limits_choice(mix.widths)
            bench = Bench(costs.document, inspected.document, limits)
            request = budget.budget_choice(bench)
            desk.settle(bench, request)
    above = st.container()
    before = desk.plan
    if bench and before:
        st.markdown("**Change it by hand**")
        bit_allocation.edit(desk, bench, before, matrices)
    plan = desk.plan
    with above:
        bit_allocation.draw_steps(desk, bench is not None)
        if plan:
            bit_allocation.draw_plan(desk, plan, bench, inspected.document)
    plan_files.draw_files(desk, inspected.document, bench)
    if plan:
        st.subheader("What it really costs")
        measured = study.study(
            *defaults.evaluate(model, texts, plan=plans.bare(plan)),
            label="this plan on the evaluation text",
            slot="measured",
            estimate="some seconds for a small model",
        )
        if measured:
            with measured:
                plan_files.draw_measured(measured, plan, bench)
    if bench and request:
        decide.section(model, texts, request, mix, bench.limits, desk)
        guarded.section(model, texts, mix, bench.limits, by, desk)

present.how_to_read(allocation_help.HOW_TO_READ)
present.provenance(
    {
        "model": model,
        "quantizers": ", ".join(mix.quantizers),
        "grid": f"{'whole rows' if mix.group_size == -1 else f'groups of {mix.group_size}'}"
        f"{', symmetric' if mix.symmetric else ''}",
        "calibration": words.value_words("calibration", texts.calibration),
        "evaluation": words.value_words("text", texts.text),
        "tokens": texts.tokens,
        "solver": "multiple-choice knapsack: Lagrangian (Everett 1963), proven by HiGHS",
    }
)
