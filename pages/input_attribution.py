"""Which words of a prompt drive the next one, by several methods, and does quantizing the model change that?"""

import streamlit as st

from workbench.ui import (
    attribution_cost,
    attribution_export,
    attribution_methods,
    attribution_spans,
    choices,
    encoder_target,
    present,
)
from workbench.ui import attribution_page as parts
from workbench.ui import target as targets
from workbench.ui.attribution_case import Case
from workbench.ui.navigation import guard

guard()

title, meaning = encoder_target.QUESTIONS[encoder_target.kind_of(choices.model())]
st.title(title)
st.write(meaning)

model, texts = choices.model(), choices.texts(measure=False)
prompt = choices.prompt()
explained = targets.target_choice()
suggestions = st.container()
left, right = st.columns(2, gap="large")
with left:
    methods = attribution_methods.method_choice(prompt)
with right:
    scheme = choices.scheme(bits=3)

st.subheader("The prompt, token by token")
case = Case(model, prompt, explained, methods, scheme, texts, parts.view_choice())
maps = parts.ask_all(case)
with suggestions:
    targets.suggest_from(maps)
chosen = parts.draw_detail(case, maps)
below = st.container()
st.subheader("The same by other methods")
others, chosen_there = parts.draw_others(case, maps)
everything = maps | others
with below:
    parts.draw_chosen(chosen, everything, "detail")
parts.draw_chosen(chosen_there, everything, "others")
parts.draw_attention(case, everything)
if everything:
    attribution_cost.learn(everything)
    st.subheader("Added up")
    attribution_spans.draw_sums(everything, case.view.marked)
    attribution_export.draw(everything, case.view)

st.subheader("Which map to believe")
parts.draw_trial(case)

present.how_to_read(
    "**Orange** tokens with a solid bar push the model towards what is explained, **blue** ones with a striped bar "
    "push against it; pale ones hardly matter. Maps without a sign are orange alone: how much, not in which direction. "
    "The strips of the method in detail share one scale, so their colours can be compared; each other method has its "
    "own. The strip of changes is orange where quantizing made a token push more, blue where less.\n\n"
    "**Keyboard.** The arrows move over the tokens, Enter chooses one, Shift with an arrow or with Enter reaches to "
    "another, Escape lets go. What is chosen can be explained itself, given the tokens before it, or marked.\n\n"
    "A method that is *complete* shares out the whole prediction: its scores add up to the explained value, or to its "
    "change from a neutral baseline. When the badge says that they do not, take the scores as an order, not as "
    "amounts. Words and sentences have the sum of their tokens' scores.\n\n"
    "**Which map to believe.** A faithful map names the tokens without which the model answers otherwise: they are "
    "replaced in the order of the map, and random orders are the yardstick (grey; z counts their standard deviations, "
    "above 2 is clearly better). With shuffled weights a good map changes."
)
parts.draw_provenance(case)
