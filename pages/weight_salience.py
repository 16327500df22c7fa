"""Which weights matter: a metric over every matrix, one matrix in detail, two metrics side by side."""

from workbench.ui.navigation import guard

guard()

import streamlit as st  # noqa: E402

from workbench.ui import (  # noqa: E402
    agreement,
    choices,
    defaults,
    metric_choice,
    metric_pair,
    present,
    prompt_salience,
    salience,
    salience_export,
    salience_help,
    salience_scope,
    study,
    words,
)

st.title("Which weights matter?")
st.write(
    "A few weights of a model do most of its work, and those are the ones to be careful with when bits are taken "
    "away. A metric gives every weight a score, its **salience**, on a calibration text. Choose a metric, then a "
    "matrix."
)

model, texts = choices.model(), choices.texts(measure=False)
left, right = st.columns(2, gap="large")
with left:
    metric, options = choices.method("salience", "metric", default=defaults.METRIC, label="Metric")
with right:
    second = metric_choice.second_choice(metric)
beside = metric_choice.beside(metric, second)

st.subheader("All matrices")
scope, measure, logarithmic = salience.map_choice(metric)
asked = defaults.salience(model, texts, metric=metric, options=options, **beside.of(metric))
found = study.study(
    *asked,
    label="the salience of every matrix",
    slot="weights",
    estimate="some seconds for a small model",
)
if found:
    shown_metric, scores = found.document["metric"], salience_scope.scoped(found, scope)
    measure = "mean" if scores.scope == "matrix" else measure
    with found:
        salience.draw_notes(found.document)
        above = st.container()
        matrix = salience.matrix_choice(scores.matrices, measure)
        with above:
            salience.draw_map(scores, measure, logarithmic, matrix)
        salience.draw_matrix(found, scores, matrix, logarithmic)
    if second != metric_choice.NOTHING:
        st.subheader("Two metrics, the same weights?")
        other = study.study(
            *defaults.salience(model, texts, metric=second, **beside.of(second)),
            label="the second metric",
            slot="second",
            auto=True,
        )
        if other:
            with other:
                names = (shown_metric, other.document["metric"])
                metric_pair.draw_comparison(found, other, names, measure, matrix)

st.subheader("Where metrics agree")
st.write("Every metric that scores single weights, against every other: which of them say the same?")
agreed = study.study(
    *defaults.agreement(model, texts, scheme=beside.scheme),
    label="how far all metrics agree",
    slot="agreement",
    estimate="half a minute for a small model",
)
if agreed:
    with agreed:
        agreement.draw(agreed, st.session_state.get("matrix"))

st.subheader("Is a prompt covered by the calibration text?")
st.write(
    "Which weights matter depends on what the model reads. If those that matter for a prompt do not matter on the "
    "calibration text, what is kept for that text's sake helps the prompt little."
)
prompt = choices.prompt()
covered = study.study(
    *defaults.prompt_coverage(model, prompt, texts),
    label="the salience of the prompt",
    slot="coverage",
    estimate="some seconds for a small model",
)
if covered:
    with covered:
        prompt_salience.draw(covered, st.session_state.get("matrix"))

st.subheader("Take the scores with you")
salience_export.draw(asked)

present.how_to_read(salience_help.HOW_TO_READ)
about = choices.described("salience", metric)
present.provenance(
    {
        "model": model,
        "metric": metric,
        "options": options,
        "calibration": words.value_words("calibration", texts.calibration) if about["needs"] else None,
        "tokens": texts.tokens if about["needs"] else None,
        **{name: words.value_words(name, value) for name, value in beside.of(metric).items() if value},
        "paper": about["reference"],
        "note": about["note"],
    }
)
