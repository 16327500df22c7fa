"""What each matrix loses at each width, and what happened inside one of them."""

from workbench.ui.navigation import guard

guard()

import streamlit as st  # noqa: E402

from workbench.ui import choices, defaults, kernel_speed, layer_error, present, study, words  # noqa: E402

st.title("What does each layer lose?")
st.write(
    "Every matrix of the model is stored with fewer bits, one at a time, and its outputs are compared with those of "
    "the full matrix. Some matrices hardly notice 3 bits, others suffer at 4. Choose a cell to see why."
)

model, texts = choices.model(), choices.texts(measure=False)
scheme = choices.scheme(many=True)
widths = layer_error.widths_of(scheme)
error = layer_error.error_choice()
found = study.study(
    *defaults.layer_error(model, texts, scheme=scheme, widths=widths),
    label="the error of every matrix at every width",
    slot="errors",
    estimate="some seconds for a small model",
)
if found:
    frame = found.tables["layer_error"]
    with found:
        above = st.container()
        st.subheader("One matrix, before and after")
        matrix, bits = layer_error.cell_choice(frame, error)
        with above:
            layer_error.draw_map(frame, error, matrix, bits)
    # the same family of schemes as the map that was clicked, which may be an older one
    family = {name: found.spec[name] for name in ("quantizer", "group_size", "symmetric", "options")}
    detail = study.study(
        *defaults.matrix_detail(model, matrix, texts, scheme={**family, "bits": bits}),
        label="this matrix in detail",
        slot="detail",
        auto=True,
    )
    if detail:
        with detail:
            layer_error.draw_detail(detail)
    kernel_speed.section(model, found.document["backend"], scheme, widths)

present.how_to_read(
    "**The map.** A column is one weight matrix, a row is one width. Bright cells lose more (of the signal to noise "
    "ratio: less). The framed cell is the one shown in detail; click another one, or choose a cell of the "
    "table.\n\n"
    "**Output error** is what counts for the model: how far the outputs of the matrix are from the full ones on the "
    "calibration text, as a share of their size. **Weight error** is the same of the weights themselves, whatever "
    "they are multiplied with. Where the two differ, the inputs of the matrix decide.\n\n"
    "Every matrix is measured alone, with the inputs of the full model. How such errors add up is on the pages "
    "Trade-off and Bit allocation."
)
about = choices.described("quantizers", scheme["quantizer"])
present.provenance(
    {
        "model": model,
        "quantizer": scheme["quantizer"],
        "options": scheme["options"],
        "calibration": words.value_words("calibration", texts.calibration),
        "tokens": texts.tokens,
        "paper": about["reference"],
        "note": about["note"],
    }
)
