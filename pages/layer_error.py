"""What each matrix loses under each quantizer and width, what that costs the model, and one of them in detail."""

from workbench.ui.navigation import guard

guard()

import streamlit as st  # noqa: E402

from workbench.ui import (  # noqa: E402
    choices,
    defaults,
    kernel_speed,
    layer_error,
    matrix_detail,
    method_card,
    present,
    quality,
    quantization,
    signal,
    study,
    words,
)

st.title("What does each layer lose?")
st.write(
    "Choose quantizers and widths. Every matrix of the model is stored in fewer bits by each of them, and its outputs "
    "are compared with those of the full matrix. Choose a cell to see why it suffers."
)

model, texts = choices.model(), choices.texts()
chosen = quantization.scheme_set()
error = layer_error.error_choice()
found = study.study(
    *defaults.layer_error(model, texts, schemes=chosen.schemes),
    label="the error of every matrix under every choice",
    slot="errors",
    estimate="some seconds a choice for a small model; methods that learn or search can take minutes",
)
frame, label = None, None
if found:
    frame = found.tables["layer_error"]
    # the choices of the map that is seen and clicked, which may be an older one
    schemes = {defaults.short_label(one): one for one in found.spec["schemes"]}
    with found:
        above, cost = st.container(), st.container()
        st.subheader("One matrix, before and after")
        matrix, label = layer_error.cell_choice(frame, error)
        with above:
            layer_error.draw_map(frame, error, matrix, label)
            layer_error.draw_notes(found.document["notes"])
    with cost:
        quality.section(defaults.quality(model, texts, schemes=list(schemes.values())), frame, label)
    asked = defaults.matrix_detail(model, matrix, texts, scheme=schemes[label])
    detail = study.study(*asked, label="this matrix in detail", slot="detail", auto=True)
    if detail:
        with detail:
            matrix_detail.draw(detail)
    signal.section(model, texts, list(schemes.values()), label)
method_card.section(chosen.quantizers, frame, label)
if found:
    grid = defaults.scheme(group_size=chosen.group, symmetric=chosen.symmetric)
    kernel_speed.section(model, found.document["backend"], grid, chosen.widths)

present.how_to_read(
    "**The map.** A column is one weight matrix, a row is one quantizer at one width. Bright cells lose more (of the "
    "signal to noise ratio: less). The framed cell is the one shown in detail; click another one, or choose a cell of "
    "the table.\n\n"
    "**Output error** is what counts for the model: how far the outputs of the matrix are from the full ones on the "
    "calibration text, as a share of their size. **Weight error** is the same of the weights themselves, whatever "
    "they are multiplied with. A method that looks at the inputs may have the larger weight error and the smaller "
    "output error.\n\n"
    "Errors are those of each matrix alone, on inputs of the full model. What they add up to is the **perplexity** "
    "below the map: further left is smaller, lower is better, the dashed line is the full model. A hollow point is "
    "beaten by another one that is at least as small and as good; bars are one standard error, paired over windows.\n\n"
    "**How the signal travels.** Mean square and variance of the hidden states behind each block should stay where "
    "the full model has them (the wide grey line). The signal error is the mean squared difference to its hidden "
    "states, as a share of their mean square: it shows where errors build up, and where they heal."
)
present.provenance(
    {
        "model": model,
        "quantizers": ", ".join(chosen.quantizers),
        "calibration": words.value_words("calibration", texts.calibration),
        "evaluation": words.value_words("text", texts.text),
        "tokens": texts.tokens,
        "window": texts.window,
    }
)
