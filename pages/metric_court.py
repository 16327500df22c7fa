"""Which sensitivity metric to believe: what each predicts, against the loss that was measured."""

from workbench.ui.navigation import guard

guard()

import streamlit as st  # noqa: E402

from workbench.ui import choices, court, defaults, present, quantization, study, words  # noqa: E402

st.title("Which metric to believe?")
st.write(
    "Papers rank weights by gradients, Hessians and path integrals. Here all of them predict what quantization does to "
    "the loss of the same model on the same text, and the measured loss is the judge."
)

model, texts = choices.model(), choices.texts()
scheme = choices.scheme(many=True)
widths = [bits for bits in quantization.several_widths(scheme) if bits < 8] or [4]
st.caption("8 bits are left out: what they change cannot be told from noise, and so cannot judge.")
found = study.study(
    *defaults.court(model, texts, scheme=scheme, widths=widths),
    label="predictions and measurements of every matrix",
    slot="court",
    estimate="some minutes for a small model",
)
if found:
    with found:
        court.draw_verdict(found)
        court.draw_cells(found)
st.subheader("Keep the top weights")
st.write(
    "The weights that a metric puts first stay at full precision, all others are quantized. What is left of the rise?"
)
width = min(widths, key=lambda bits: abs(bits - 3))
detached = study.study(
    *defaults.detach(model, texts, scheme={**scheme, "bits": width}),
    label=f"what each metric's top weights are worth at {width} bits",
    slot="detach",
    estimate="a minute or two for a small model",
)
if detached:
    with detached:
        court.draw_detached(detached)

present.how_to_read(
    "**Predicted and measured.** A metric that stands at 1 says exactly how far the loss rises when all matrices are "
    "quantized; at 0.01 it is a hundred times too small. The path integral is exact up to its number of points: it "
    "adds up the gradient all the way from the full to the quantized weights. First-order and Fisher look only at "
    "where they start.\n\n"
    "**Rank agreement** is Spearman's correlation over the matrices between what is predicted for each and the rise "
    "measured with that one quantized, the mean over widths: a metric can be useless as a number and good as a "
    "ranking.\n\n"
    "**Matrices one at a time** do not add up to all at once where few bits are left; by how much is said above.\n\n"
    "**Unseen text** matters: a metric can fit the text that it was computed on."
)
present.provenance(
    {
        "model": model,
        "quantizer": scheme["quantizer"],
        "calibration": words.value_words("calibration", texts.calibration),
        "evaluation": words.value_words("text", texts.text),
        "tokens": texts.tokens,
        "question": "arXiv 2503.01901 (PQI), section 3",
    }
)
