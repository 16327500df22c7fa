"""The opening page: the model in three sentences, then its weights and a prompt's words side by side."""

import streamlit as st

from workbench.ui import choices, defaults, overview, study
from workbench.ui.navigation import guard

guard()

st.title("Which weights matter, and which words?")
st.write(
    "A language model is a pile of numbers, its **weights**. This workbench shows which of them matter, which words of "
    "an input matter, and what is lost when the weights are stored in fewer bits."
)

model, texts, metric = choices.model(), choices.texts(), overview.metric_choice()
asked = defaults.overview(model, texts, metric=metric)
sentences = st.container(border=True)

st.subheader("One prompt, seen from both sides")
prompt = choices.prompt()
inputs = study.study(*defaults.attribute(model, prompt), label="which words matter", slot="inputs", auto=True)
weights = study.study(*asked["weights"], label="the salience of every matrix", slot="weights", estimate="some seconds")
if inputs:
    overview.draw_words_and_weights(inputs, weights, defaults.token_weights(model, prompt), metric)

st.subheader("How large it is at each width")
sizes = study.study(*asked["sizes"], label="sizes", slot="sizes", auto=True)
if sizes:
    overview.draw_sizes(sizes)

st.subheader("What fewer bits cost")
costs = study.study(*asked["costs"], label="quality at 2, 3, 4 and 8 bits", slot="costs", estimate="a minute or two")
if costs:
    overview.draw_costs(costs)

with sentences:
    overview.draw_sentences(sizes, weights, costs, inputs, metric)
