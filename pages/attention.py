"""Where each head looks, what becomes of it under quantization, and why that is no explanation."""

import streamlit as st

from workbench.ui import attention, attention_sinks, choices, defaults, present, sink_damage, study
from workbench.ui.navigation import guard

guard()

st.title("Where does it look?")
st.write(
    "In every layer, each attention head of a language model decides how much every position takes from each token "
    "before it. Here are all heads at once, one of them over the tokens, and what fewer bits change."
)
st.info(
    "Attention is not an explanation. It says where a model looks, not what its answer rests on: very different "
    "attention can give the same answer, and much of it may rest on tokens that carry nothing. Input attribution "
    "asks what the answer rests on.",
    icon=":material/visibility:",
)

model, texts = choices.model(), choices.texts(measure=False)
prompt = choices.prompt()
left, right = st.columns(2, gap="large")
with left:
    limit = attention_sinks.limit_choice()
with right:
    scheme = choices.scheme(bits=3)

asked = {"limit": limit, "texts": texts}
full = study.study(
    *defaults.attention_maps(model, prompt, **asked), label="the attention of every head", slot="heads", auto=True
)
question = defaults.attention_maps(model, prompt, **asked, scheme=scheme)
quantized = study.study(*question, label="the attention of the quantized model", slot="heads-quantized", auto=True)
with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
    name = attention.model_choice()
    no_sinks = attention_sinks.leave_out_choice(full)
shown = full if name == "full" else quantized
if shown:
    with attention.part("heads-all", shown):
        present.notes(shown.document)
        st.subheader("All heads")
        column, unit = attention.summary_choice(shown)
        above = st.container()
        st.subheader("One head")
        chosen = attention.head_choice(shown)
        with above:
            attention.draw_grid(shown, column, unit, chosen)
        st.markdown(f"**What the last position looks at**, {attention.place_words(chosen)}")
        left_out = attention_sinks.sinks_in(shown, chosen[0]) if no_sinks else []
        row = attention.last_row(shown, chosen, left_out)
        attention.draw_strip(shown, row, key="strip-head", label="Tokens by attention of the chosen head")
    st.markdown("**What every position looks at**")
    layer, head = chosen
    place = {"layer": layer, "head": None if head == attention.MEAN_HEAD else head}
    question = defaults.attention_maps(model, prompt, **asked, **place, scheme=scheme if name == "quantized" else None)
    found = study.study(*question, label="the map of this head", slot="map", auto=True)
    if found:
        with found:
            attention.draw_map(found, left_out)
    with attention.part("heads-rollout", shown):
        st.subheader("Through all layers")
        rolled = shown.document["rollout_without_sinks" if no_sinks else "rollout"]
        attention.draw_strip(shown, rolled, key="strip-rollout", label="Tokens by attention rollout")
if full:
    with attention.part("sinks", full, quantized):
        st.subheader("Sinks")
        st.write(attention_sinks.sink_sentence(full))
        attention_sinks.draw_layers(full, quantized)
if quantized:
    with attention.part("repair", quantized):
        st.subheader("Whose error counts")
        attention_sinks.draw_repair(quantized)
    sink_damage.beside_attention(model, prompt, scheme, texts, quantized)

present.how_to_read(
    "**All heads.** A cell is one head. A head that looks at one token is sharp, one that looks at thirty is nearly "
    "even. Choose a cell to see the head below.\n\n"
    "**One head.** A row of the map is a position, a column a token that it can look at: itself and those before it. "
    "Every row adds up to one. A line beside the diagonal is a head that looks one token back; a bright column is a "
    "token that every position looks at.\n\n"
    "**Through all layers** (rollout) follows attention from layer to layer, half of each step staying where it is. "
    "It adds up to one, and it is the same whatever word is predicted.\n\n"
    "**Sinks** are tokens that draw attention without carrying anything: a few entries of their hidden state are huge. "
    "*Phi* is the largest such entry beside the token's typical one. Small models often have none. The switch leaves "
    "them out and lets every row add up to one again.\n\n"
    "**Whose error counts.** The quantized model is run again and again, each time with the hidden states of one token "
    "as the full model has them. Orange tokens mend the prediction, blue ones make it worse. The last token decides "
    "the prediction itself, so it mends much by its nature; that sinks hold much attention does not mean that their "
    "error counts.\n\n"
    "**What sinks cost** holds the two against each other. The damage is shared out exactly over matrices and tokens; "
    "where its line lies below that of the attention, sinks draw more than they cost."
)
present.provenance(
    {
        "model": model,
        "quantized": defaults.scheme_label(scheme),
        "papers": "Jain, Wallace 2019, arXiv:1902.10186; Abnar, Zuidema 2020, arXiv:2005.00928 (rollout); Kang et al. "
        "2025, arXiv:2503.03321 (sinks)",
    }
)
