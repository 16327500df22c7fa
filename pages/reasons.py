"""Does the quantized model give the same answer for the same reasons, and where are they lost?"""

import streamlit as st

from workbench.ui import (
    choices,
    defaults,
    present,
    reasons,
    reasons_blame,
    reasons_calibration,
    reasons_curve,
    reasons_damage,
    reasons_help,
    reliability,
    sink_damage,
    study,
    target,
    token_flow,
    words,
)
from workbench.ui.navigation import guard

guard()

st.title("Same answer, same reasons?")
st.write(
    "A model with fewer bits can give the same answer for other reasons: it leans on other words of the prompt, and no "
    "benchmark of answers tells. Here both models explain themselves by the same method, and what has moved is "
    "followed back to weights and words."
)

model, texts = choices.model(), choices.texts(measure=False)
prompt = choices.prompt()
explained = reasons.next_token(target.target_choice())
left, right = st.columns(2, gap="large")
with left:
    method, options = choices.method("attribution", "method", default=defaults.METHOD)
with right:
    scheme = choices.scheme(bits=3)

asked = {"explained": explained, "scheme": scheme, "texts": texts}
question = defaults.drift(model, prompt, method=method, options=options, **asked)
found = study.study(*question, label="the maps of both models", slot="reasons", auto=True)
clicked, numbers = None, None
if found:
    with found:
        reasons.draw_verdict(found)
        st.subheader("The prompt, token by token")
        clicked = reasons.draw_strips(found)
        numbers = st.container()
        reasons.draw_comparison(found)

st.subheader("How few bits?")
st.write("The same for several prompts, methods and widths: where do the reasons begin to move?")
prompts = reasons_curve.prompts_choice()
methods = reasons_curve.methods_choice()
schemes = reasons_curve.schemes_choice(scheme)
question = defaults.drift_curve(model, prompts, methods=methods, options={method: options} if method in methods else {},
                                schemes=schemes, texts=texts)  # fmt: skip
curve = study.study(
    *question,
    label="the drift at every width",
    slot="curve",
    estimate=reasons_curve.estimate(prompts, methods, schemes),
)
if curve:
    with curve:
        reasons_curve.draw(curve, scheme)

st.subheader("Where is it lost?")
damage = study.study(
    *defaults.damage_map(model, prompt, **asked), label="the damage by matrix and token", slot="damage", auto=True
)
if damage:
    with damage:
        reasons_damage.draw(damage)

st.subheader("Which tokens are to blame?")
question = defaults.blame(model, prompt, scheme=scheme, texts=texts)
blame = study.study(*question, label="the blame of every token", slot="blame", auto=True)
if blame:
    with blame:
        span = reasons_blame.draw(blame)
        reasons_calibration.closing(model, prompt, blame, scheme, texts)
    st.markdown("**Add to the calibration text**")
    reasons_calibration.section(blame, span, scheme)
if found and numbers is not None and clicked is not None:
    with numbers:
        reasons.draw_token(clicked, found, damage, blame)

reliability.section(model, prompt, explained, method, options, scheme)
sink_damage.beside_damage(model, prompt, scheme, texts, damage)
token_flow.section(model, prompt, explained, scheme, texts)

present.how_to_read(reasons_help.HOW_TO_READ)
about = choices.described("attribution", method)
present.provenance(
    {
        "model": model,
        "method": method,
        "options": options,
        "quantized": defaults.scheme_label(scheme),
        "calibration": words.value_words("calibration", texts.calibration),
        "paper": about["reference"],
        "note": about["note"],
    }
)
