"""The parts of the Overview page: the sentences, the words above the weights, the tables of sizes and of costs."""

from __future__ import annotations

from pathlib import PurePath

import pandas as pd
import streamlit as st

from workbench.figures.blocks import block_map
from workbench.figures.frames import keep
from workbench.ui import choices, controls, defaults, present, rows, sentences, session
from workbench.ui.attribution import ranked_tokens
from workbench.ui.defaults import Question
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import NONE, TIMES, number, percent, size
from workbench.ui.study import Shown, study
from workbench.ui.tokens import token_strip

COST = defaults.scheme(bits=3)
"""The scheme whose price the opening sentences name."""

CELLS = (
    "Each cell is one weight matrix: a row a role, a column a block of layers, from the input on the left to the "
    "output on the right. "
)


def metric_choice() -> str:
    """The salience metric; no control until the worker has listed its metrics, so that the page opens at once."""
    try:
        offered = choices.metrics()
    except session.NotReady:
        return defaults.METRIC
    with st.sidebar:
        return controls.select("Salience metric", offered, defaults.METRIC, key="metric")


def draw_sentences(
    sizes: Shown | None, weights: Shown | None, costs: Shown | None, inputs: Shown | None, metric: str
) -> None:
    """What there is to say about the model, its weights and the prompt; what is not computed yet is left out."""
    lines = []
    if sizes:
        lines.append("**The model.** " + sentences.model_sentence(sizes.document))
    about_weights = [] if weights is None else [sentences.weights_sentence(weights.tables["matrices"], metric)]
    price = sentences.cost_sentence(costs.document, defaults.scheme_label(COST), COST["bits"]) if costs else None
    about_weights += [price] if price else []
    if about_weights:
        lines.append("**Its weights.** " + " ".join(about_weights))
    if inputs:
        lines.append("**The words.** " + sentences.inputs_sentence(inputs.document))
    for line in lines:
        st.markdown(line)
    if not lines:
        st.skeleton(height=120)


def draw_words_and_weights(inputs: Shown, weights: Shown | None, question: Question, metric: str) -> None:
    """The prompt's tokens, and under them the matrices: by salience, or by their part in a token that was clicked."""
    document = inputs.document
    with inputs:
        st.markdown(
            f"After this prompt the model expects {sentences.quoted(sentences.target_text(document))}. The colours say "
            "how much each token pushes towards it. **Choose a token** to see which matrices work on it; choose it "
            "again to take that back."
        )
        chosen = token_strip(
            document["tokens"],
            document["scores"],
            key="overview-strip",
            label="Tokens of the prompt by attribution",
            signed=document["signed"],
            fixed=document["held_fixed"],
        )
        tokens = ranked_tokens(inputs)
        present.table(tokens, key="overview-tokens", file_name="tokens.csv", label="The tokens as a table")
    if chosen is not None:
        _draw_token(question, chosen)
    elif weights:
        _draw_salience(weights, metric)


def _draw_token(question: Question, position: int) -> None:
    found = study(*question, label="the weights behind each token", slot="token-weights", auto=True)
    if found is None or position >= len(found.document["tokens"]):
        return
    frame = keep(found.tables["token_weights"], found.tables["token_weights"]["position"] == position)
    strongest = rows.largest(frame, "magnitude")
    token = sentences.quoted(found.document["tokens"][position])
    with found:
        st.markdown(
            f"**The matrices at token {position + 1}, {token}**, by gradient {TIMES} weight: what passes through."
        )
        present.chart(
            drawing(block_map, frame, value="magnitude", unit=f"gradient {TIMES} weight", selected=strongest["matrix"]),
            alt=f"Gradient times weight of every matrix at token {position + 1}; the strongest is "
            f"{strongest['matrix']} with {number(strongest['magnitude'])}.",
            key="overview-token-map",
            table_of=frame.filter(["matrix", "block", "role", "score", "magnitude"]),
            file_name="token-weights.csv",
        )
        present.how_to_read(
            f"{CELLS}The colour is the sum of |gradient {TIMES} weight {TIMES} input| at the chosen token: the amount "
            "that passes through the matrix there, whatever its sign. The table also has the signed sum."
        )


def _draw_salience(weights: Shown, metric: str) -> None:
    frame = weights.tables["matrices"]
    first = rows.largest(frame, "mean")
    with weights:
        st.markdown(f"**The matrices by salience** ({markdown(metric)}), over the whole calibration text.")
        _draw_summary(metric)
        present.chart(
            drawing(block_map, frame, value="mean", unit=f"mean {metric}", selected=first["matrix"]),
            alt=f"Mean {metric} of every matrix; the largest is {first['matrix']} with {number(first['mean'])}.",
            key="overview-salience-map",
            table_of=frame,
            file_name="salience.csv",
        )
        present.how_to_read(
            f"{CELLS}Bright cells hold weights that matter more for the model's answers, dark ones less; the scale is "
            "logarithmic. Changing weights in bright cells is likely to hurt more."
        )
        present.provenance(
            {
                "metric": metric,
                "options": weights.document["options"],
                "calibration": PurePath(weights.spec["calibration"]).name,
                "tokens": weights.spec["tokens"],
            }
        )


def _draw_summary(metric: str) -> None:
    """What the metric says of itself, once the worker has listed it."""
    try:
        st.caption(markdown(f"{metric}: {choices.described('salience', metric)['summary']}"))
    except session.NotReady:
        return


def draw_sizes(sizes: Shown) -> None:
    """The sizes at each width as a small table: read at a glance, and exact bytes in the CSV file."""
    widths = sizes.document["sizes"]
    full = max(row["total_bytes"] for row in widths)
    shown = [
        {
            "bits": str(row["bits"]),
            "stored bits a weight": number(row["stored_bits"]),
            "the matrices": size(row["matrix_bytes"]),
            "the whole model": size(row["total_bytes"]),
            "against 16 bits": percent(row["total_bytes"] / full),
        }
        for row in widths
    ]
    with sizes:
        st.table(pd.DataFrame(shown), hide_index=True, border="horizontal", alt="Size of the model at each width")
        st.caption(
            "Round-to-nearest, groups of 64. Stored bits count scales and zero points too. Embeddings and norms stay "
            "at 16 bits."
        )
        present.table(pd.DataFrame(widths), key="sizes-table", file_name="sizes.csv", label="Exact bytes")


def draw_costs(costs: Shown) -> None:
    """Perplexity at each width as a small table, full precision first."""
    full = costs.document["reference"]["perplexity"]
    points = [{"label": "full precision", "stored_bits": None, "perplexity": full}, *costs.document["points"]]
    shown = [
        {
            "stored with": point["label"],
            "stored bits a weight": number(point["stored_bits"]),
            "perplexity": number(point["perplexity"]),
            "against full precision": _factor(point["perplexity"], full) if point["stored_bits"] else NONE,
        }
        for point in points
    ]
    with costs:
        st.table(pd.DataFrame(shown), hide_index=True, border="horizontal", alt="Perplexity at each width")
        st.caption(
            "Perplexity: between how many tokens the model hesitates, on average, at each step of the evaluation text. "
            "Lower is better."
        )
        present.table(costs.tables["points"], key="costs-table", file_name="costs.csv", label="All that was measured")


def _factor(value: float | None, full: float | None) -> str:
    return f"{TIMES} {number(value / full)}" if value and full else NONE
