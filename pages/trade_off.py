"""How much quality for how many bits: uniform widths and plans, measured on one text."""

from workbench.ui.navigation import guard

guard()

import streamlit as st  # noqa: E402

from workbench.ui import choices, defaults, present, study, trade_off, words  # noqa: E402

st.title("How much quality for how many bits?")
st.write(
    "Every point is the whole model with fewer bits, measured on the same evaluation text. Lower and further left is "
    "better: less perplexity, fewer bits."
)

model, texts = choices.model(), choices.texts()
scheme = choices.scheme(many=True)
points = trade_off.point_choice(model, scheme)
found = study.study(
    *defaults.tradeoff(model, texts, points=points),
    label="quality at each of these points",
    slot="points",
    estimate="some seconds a point for a small model",
)
if found:
    with found:
        trade_off.draw_points(found)

present.how_to_read(
    "**Perplexity** is between how many tokens the model hesitates on average; the dashed line is the full model. "
    "**Stored bits** count scales and zero points too. A **hollow** point is beaten by another one that is at least "
    "as small and as good; the thin line joins the others.\n\n"
    "**Error bars** are one standard error of the difference to the full model, paired over the windows of the text: "
    "both models read the same windows, so that what makes a window hard cancels out. Two points are called alike "
    "when their difference is below two standard errors, taken from both bars as if they were independent, which is "
    "cautious."
)
present.provenance(
    {
        "model": model,
        "calibration": words.value_words("calibration", texts.calibration),
        "evaluation": words.value_words("text", texts.text),
        "tokens": texts.tokens,
        "window": texts.window,
    }
)
