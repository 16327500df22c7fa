"""Which words of a prompt drive the next one, and does quantizing the model change that?"""

import streamlit as st

from workbench.ui import attribution, choices, defaults, present, study, target
from workbench.ui.navigation import guard

guard()

st.title("Which words drive the next word?")
st.write(
    "A language model reads a prompt and predicts the next token, a word or a piece of one. Here every token of the "
    "prompt gets a score: how much it pushes the model towards one prediction. Below, the same for the model with "
    "fewer bits: same answer, same reasons?"
)

model, texts = choices.model(), choices.texts(measure=False)
prompt = choices.prompt()
explained = target.target_choice()
suggestions = st.container()
left, right = st.columns(2, gap="large")
with left:
    method, options = choices.method("attribution", "method", default=defaults.METHOD)
with right:
    scheme = choices.scheme(bits=3)

st.subheader("The prompt, token by token")
asked = {"explained": explained, "method": method, "options": options}
full = study.study(*defaults.attribute(model, prompt, **asked), label="attribution", slot="full", auto=True)
question = defaults.attribute(model, prompt, **asked, scheme=scheme, texts=texts)
quantized = study.study(*question, label="attribution of the quantized model", slot="quantized", auto=True)

limit = attribution.strip_limit(full, quantized)
clicked: list[int | None] = []
if full:
    with suggestions:
        target.suggest(full.document)
    clicked.append(attribution.draw_model(full, name="Full precision", key="strip-full", limit=limit))
if quantized:
    name = f"Quantized: {defaults.scheme_label(quantized.spec['scheme'])}"
    clicked.append(attribution.draw_model(quantized, name=name, key="strip-quantized", limit=limit))
if full and quantized and attribution.comparable(full, quantized):
    clicked.append(attribution.draw_difference(full, quantized, limit=limit))
    for position in dict.fromkeys(one for one in clicked if one is not None):
        attribution.draw_token(position, full, quantized)
    attribution.draw_comparison(full, quantized)
elif full:
    present.table(attribution.ranked_tokens(full), key="tokens-table", file_name="attribution.csv")

present.how_to_read(
    "**Orange** tokens with a solid bar push the model towards the token that is explained, **blue** ones with a "
    "striped bar push against it; pale ones hardly matter. All strips share one scale, so their colours can be "
    "compared. The strip of changes is orange where quantizing made a token push more, blue where less.\n\n"
    "A method that is *complete* shares out the whole prediction: its scores add up to the explained value, or to its "
    "change from a neutral baseline. When the badge says that they do not, take the scores as an order, not as amounts."
)
about = choices.described("attribution", method)
present.provenance(
    {"model": model, "method": method, "options": options, "paper": about["reference"], "note": about["note"]}
)
