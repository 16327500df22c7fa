"""Which weights matter: a metric over every matrix, one matrix in detail, two metrics side by side."""

from workbench.ui.navigation import guard

guard()

import streamlit as st  # noqa: E402

from workbench.ui import choices, defaults, present, salience, study, words  # noqa: E402

st.title("Which weights matter?")
st.write(
    "A few weights of a model do most of its work, and those are the ones to be careful with when bits are taken "
    "away. A metric gives every weight a score, its **salience**, on a calibration text. Choose a metric, then a "
    "matrix."
)

model, texts = choices.model(), choices.texts(measure=False)
left, right = st.columns(2, gap="large")
with left:
    metric, options = choices.method(
        "salience", "metric", default=defaults.METRIC, label="Metric", accepts=choices.of_full_weights
    )
with right:
    second = salience.second_choice(metric)

st.subheader("All matrices")
measure, logarithmic = salience.map_choice()
found = study.study(
    *defaults.salience(model, texts, metric=metric, options=options),
    label="the salience of every matrix",
    slot="weights",
    estimate="some seconds for a small model",
)
if found:
    frame, shown_metric = found.tables["matrices"], found.document["metric"]
    with found:
        above = st.container()
        matrix = salience.matrix_choice(frame, measure)
        with above:
            salience.draw_map(frame, shown_metric, measure, logarithmic, matrix)
        salience.draw_matrix(found, matrix, shown_metric)
    if second != salience.NOTHING:
        st.subheader("Two metrics, the same weights?")
        other = study.study(
            *defaults.salience(model, texts, metric=second), label="the second metric", slot="second", auto=True
        )
        if other:
            with other:
                names = (shown_metric, other.document["metric"])
                salience.draw_comparison(found, other, names, measure, matrix)

present.how_to_read(
    "**The map.** Each cell is one weight matrix: a row a role, a column a block of layers, from the input on the "
    "left to the output on the right. Bright cells score higher. Click a cell, or choose a matrix by name, to see "
    "inside it.\n\n"
    "**Unevenness.** A Gini coefficient of 0 means that all weights of a matrix matter alike, 1 that a single one "
    "has it all. The curve of a matrix that bends far above the dashed line can lose most of its weights' precision "
    "at little cost, if the few that matter are kept.\n\n"
    "**Channels.** The score of an input channel is the sum over the weights that read it; of a matrix with more "
    "than 512 inputs, means over neighbours are shown. Scores of different metrics have different units: compare "
    "their order, not their size."
)
about = choices.described("salience", metric)
present.provenance(
    {
        "model": model,
        "metric": metric,
        "options": options,
        "calibration": words.value_words("calibration", texts.calibration) if about["needs"] else None,
        "tokens": texts.tokens if about["needs"] else None,
        "paper": about["reference"],
        "note": about["note"],
    }
)
