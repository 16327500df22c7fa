"""Would anybody notice? Two models side by side: what they write, what they take, why they answer as they do."""

import streamlit as st

from workbench.ui import choices, defaults, demo, present, report_file, study, words
from workbench.ui.navigation import guard

guard()

st.title("Would anybody notice?")
st.write(
    "Fewer bits make a model smaller. Here the full model and a smaller one continue the same prompt, side by side: "
    "what they write, what they take, and whether they answer for the same reasons."
)

model, texts = choices.model(), choices.texts()
prompt = choices.prompt()
points = demo.points_choice(model)
new_tokens, temperature, seed = demo.writing_choice()
question = defaults.generate(
    model, prompt, texts=texts, points=points, new_tokens=new_tokens, temperature=temperature, seed=seed
)
found = study.study(*question, label="both texts", slot="demo", estimate="some seconds for a small model")
if found:
    with found:
        demo.draw_sentences(found)
        st.subheader("What they write")
        demo.draw_texts(found)
        st.subheader("What they take")
        demo.draw_sizes(found)
        st.subheader("Why they answer as they do")
        demo.draw_reasons(found)
        present.notes(found.document)
        report_file.section(found, texts)

present.how_to_read(
    "**Bits**: every weight of the large matrices is rounded to the nearest of a few levels (round-to-nearest, groups "
    "of 64 with a scale and a zero point each); two bits are four levels. A plan gives each matrix a width of its own. "
    "The page Trade-off compares finer methods.\n\n"
    "**Underlined words** are not in the full model's text; both texts are aligned first, so that a word put in does "
    "not mark all that follow. A small change early on may turn the whole story, which need not make it a worse one: "
    "**perplexity** tells more than one text. It is between how many tokens the model hesitates, on average, at each "
    "step of the evaluation text.\n\n"
    "**As a file** counts packed codes with their scales, and 16 bits for everything else. **Speed** is measured when "
    "texts are computed, from packed codes where there are kernels for them. Kernels for GPUs gain speed by fewer "
    "bits; on a processor, unpacking may cost more than it saves.\n\n"
    "**The coloured tokens** say how much each one pushes the model towards its answer, the next token after the "
    "prompt."
)
present.provenance(
    {
        "model": model,
        "calibration": words.value_words("calibration", texts.calibration),
        "evaluation": words.value_words("text", texts.text),
        "tokens": texts.tokens,
        "method of the reasons": question[1]["method"],
        "seed": seed if temperature else None,
    }
)
