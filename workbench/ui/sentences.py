"""The three sentences at the top of the Overview, made from results; what comes from a prompt is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from workbench.ui.escape import markdown, visible
from workbench.ui.numbers import number, percent, plural, size
from workbench.ui.rows import Row, largest, smallest


def model_sentence(document: Mapping[str, Any]) -> str:
    """What the model is and how large it is, from the document of `inspect`."""
    model, matrices = document["model"], document["matrices"]
    blocks = len({one["block"] for one in matrices if one["block"] is not None})
    total = {one["bits"]: one["total_bytes"] for one in document["sizes"]}
    small = min(total)
    return (
        f"**{markdown(model['id'])}** has {plural(model['parameters'], 'parameter')} in {plural(blocks, 'block')} of "
        f"layers. At 16 bits a weight it takes {size(total[16])}; with its "
        f"{plural(len(matrices), 'matrix', 'matrices')} at 4 bits {size(total[4])}, at {small} bits "
        f"{size(total[small])}."
    )


def weights_sentence(matrices: pd.DataFrame, metric: str) -> str:
    """How unequal the weights are, from table `matrices` of `salience`."""
    uneven = largest(matrices, "top1pct_share")
    first, last = largest(matrices, "mean"), smallest(matrices, "mean")
    ratio = first["mean"] / last["mean"] if last["mean"] > 0 else None
    gap = "" if ratio is None else f", {number(ratio, 2)} times those of {place(last)}"
    return (
        f"By {markdown(metric)}, the weights of {place(first)} matter most on average{gap}. Inside {place(uneven)}, "
        f"the top 1 % of the weights hold {percent(uneven['top1pct_share'])} of the salience."
    )


def cost_sentence(document: Mapping[str, Any], label: str, bits: int) -> str | None:
    """What one point of `tradeoff` costs, all matrices at that width; None when there is no point of that label."""
    point = next((one for one in document["points"] if one["label"] == label), None)
    full = document["reference"]["perplexity"]
    if point is None or not point["perplexity"] or not full:
        return None
    change = point["perplexity"] / full - 1
    return (
        f"Rounded to {bits} bits ({markdown(label)}), every weight takes {number(point['stored_bits'])} bits with its "
        f"share of scales, and the model hesitates between {number(point['perplexity'])} tokens instead of "
        f"{number(full)} (its perplexity; {percent(abs(change))} {'worse' if change >= 0 else 'better'})."
    )


def inputs_sentence(document: Mapping[str, Any]) -> str:
    """Which token drives the prediction, from the document of `attribute`."""
    scores = [score if score is not None else 0.0 for score in document["scores"]]
    strongest = max(range(len(scores)), key=lambda index: abs(scores[index]))
    against = min(range(len(scores)), key=lambda index: scores[index])
    words = f"After the prompt below the model expects {quoted(target_text(document))}. "
    direction = "towards it" if scores[strongest] >= 0 else "away from it"
    words += f"The token that moves this most is {quoted(document['tokens'][strongest])}, which pushes {direction}"
    if scores[against] < 0 and against != strongest:
        words += f"; {quoted(document['tokens'][against])} pushes against it"
    return words + "."


def target_text(document: Mapping[str, Any]) -> str:
    """The token that was explained, as text."""
    return document["target"]["texts"][0]


def quoted(token: str) -> str:
    """A token in quotation marks with its blanks visible, safe in Markdown."""
    return f"“{markdown(visible(token))}”"


def place(row: Row) -> str:
    """Where a matrix is, such as `down_proj of block 3`, safe in Markdown."""
    where = "" if pd.isna(row["block"]) else f" of block {int(row['block'])}"
    return f"**{markdown(row['role'])}**{where}"
