"""How much quality for how many bits: plans along budgets, uniform widths and rules of thumb, measured on one text."""

import streamlit as st

from workbench.ui import choices, defaults, front, mixing, point, present, study, trade_off, words
from workbench.ui.navigation import guard

guard()

st.title("How much quality for how many bits?")
st.write(
    "Every point is the whole model with fewer bits, measured on the same evaluation text. Lower and further left is "
    "better: less perplexity, fewer bits. Choose a point to see its plan."
)

model, texts = choices.model(), choices.texts()
mix = mixing.mix_choice()
question = front.question(model, texts, mix)
points = trade_off.point_choice(model, [*mixing.schemes(mix), *mixing.fixed_choice()])
inspected = study.study(*defaults.inspect(model), label="the matrices of the model", slot="sizes", auto=True)
found = study.study(
    *defaults.tradeoff(model, texts, points=points),
    label="quality of one width for all and of the plans of this session",
    slot="points",
    estimate="some seconds a point for a small model",
)
along = question and study.study(
    *question,
    label="plans along the budgets",
    slot="front",
    estimate="the tables of costs that are still missing, then some seconds a plan",
)
gathered = front.gather(found, along)
if gathered:
    with gathered.place:
        point.draw(gathered, model, inspected.document["matrices"] if inspected else None)

present.how_to_read(
    "**Perplexity** is between how many tokens the model hesitates on average; the dashed line is the full model. "
    "**Stored bits** count scales and zero points too. A **hollow** point is beaten by another one that is at least "
    "as small and as good; the thin line joins the others.\n\n"
    "**Plans along budgets** are solved and decided on calibration text; the evaluation text, on which all points are "
    "drawn, has no say. A uniform plan stands at a budget unless another is clearly better. **Rules of thumb** give "
    "the matrices of the highest salience more bits and measure nothing.\n\n"
    "**Error bars** are one standard error of the difference to the full model, paired over the windows of the text: "
    "both models read the same windows, so that what makes a window hard cancels out. Two points are called alike "
    "when their difference is below two standard errors, taken from both bars as if they were independent, which is "
    "cautious. The dotted lines cross in the point that is pinned as the reference."
)
present.provenance(
    {
        "model": model,
        "quantizers": ", ".join(mix.quantizers),
        "calibration": words.value_words("calibration", texts.calibration),
        "evaluation": words.value_words("text", texts.text),
        "tokens": texts.tokens,
        "window": texts.window,
    }
)
