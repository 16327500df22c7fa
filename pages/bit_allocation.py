"""Where the bits should go for a budget: what each matrix costs, a plan, its file, and what it was measured to cost."""

from workbench.ui.navigation import guard

guard()

import streamlit as st  # noqa: E402

from workbench.ui import (  # noqa: E402
    bit_allocation,
    choices,
    defaults,
    plan_files,
    plans,
    present,
    quantization,
    study,
    words,
)
from workbench.ui.desk import Desk  # noqa: E402

st.title("Where should the bits go?")
st.write(
    "Not every matrix needs the same width. First, measure what each one costs at each width; then choose how many "
    "bits a weight may take on average, and the solver spends them where they save most."
)

model, texts = choices.model(), choices.texts()
scheme = choices.scheme(many=True)
widths = quantization.several_widths(scheme)
measure, by = bit_allocation.cost_choice()
inspected = study.study(*defaults.inspect(model), label="the matrices of the model", slot="sizes", auto=True)
cells = study.study(
    *defaults.sensitivity(model, texts, scheme=scheme, widths=widths, measure=measure, by=by),
    label="what each matrix costs at each width",
    slot="cells",
    estimate="a forward pass a cell: minutes for a small model; if it is stopped it goes on where it was",
)
if inspected:
    desk, matrices = Desk(model), inspected.document["matrices"]
    bench = plans.Bench(cells.document, inspected.document) if cells else None
    if bench and cells:
        with cells:
            st.subheader("The plan")
            desk.settle(bench, bit_allocation.budget_choice(bench))
    above = st.container()
    before = desk.plan
    if bench and before:
        st.markdown("**Change it by hand**")
        bit_allocation.edit(desk, bench, before, matrices)
    plan = desk.plan
    with above:
        bit_allocation.draw_steps(desk, bench is not None)
        if plan:
            bit_allocation.draw_plan(desk, plan, bench, matrices)
    plan_files.draw_files(desk, inspected.document)
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

present.how_to_read(
    "**Stored bits** count all that is kept for a weight: its code and its share of scales and zero points. "
    "Embeddings and norms are left alone and not counted.\n\n"
    "**The prediction** adds up what each matrix costs when it alone is quantized. That is cheap and mostly right "
    "above 3 bits, but too hopeful where all matrices are squeezed at once; so measure the plan before you trust it. "
    "A cost below zero is noise of the text: there, fewer bits happened to help.\n\n"
    "**By hand.** Choose another width in the table and the plan is yours; tick **locked** and the solver will work "
    "around it. Moving the budget lets the solver choose again, except where you locked."
)
present.provenance(
    {
        "model": model,
        "schemes": defaults.scheme_label({**scheme, "bits": None}).replace("fixed width, ", ""),
        "calibration": words.value_words("calibration", texts.calibration),
        "evaluation": words.value_words("text", texts.text),
        "tokens": texts.tokens,
        "solver": "multiple-choice knapsack: Lagrangian (Everett 1963), proven by HiGHS",
    }
)
