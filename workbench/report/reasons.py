"""Same answer, same reasons? The prompt's tokens in both models, coloured by what they contribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.figures.style import signed_colour
from workbench.report.findings import Findings
from workbench.report.markup import Html, folded, table, tag
from workbench.ui.escape import visible
from workbench.ui.numbers import number, percent
from workbench.ui.reasons_verdict import answer_light, bounds_words, reasons_light

THICK = 4
"""Pixels of the line under the token that counts most."""


def section(found: Findings) -> Html:
    """Both maps, how far they agree, and the bounds of the words that are used."""
    row, method, top_k = found.chosen["reasons"], found.written["method"], found.written["top_k"]
    answer, reasons = answer_light(row), reasons_light(row, method, top_k)
    before, after = (_known(row[name]) for name in ("full_scores", "quantized_scores"))
    limit = max((abs(score) for score in (*before, *after)), default=0.0) or 1.0
    told = (
        f"{answer.words.capitalize()}; {reasons.words}. The full model expects “{visible(row['full_answer'])}” most, "
        f"the quantized one “{visible(row['quantized_answer'])}”. The colours say how much each token of the prompt "
        f"pushes towards “{visible(row['target']['texts'][0])}” (orange, solid line) or away from it (blue, dashed "
        f"line), by {method}; both strips share one scale."
    )
    listed = [
        (f"{place} {visible(token)}", number(one, sign=True), number(other, sign=True), number(other - one, sign=True))
        for place, (token, one, other) in enumerate(zip(row["tokens"], before, after, strict=True), start=1)
    ]
    return tag(
        "section",
        tag("h2", "Same answer, same reasons?"),
        tag("p", told),
        tag("h3", "Full precision"),
        strip(row["tokens"], before, limit),
        tag("h3", "Quantized"),
        strip(row["tokens"], after, limit),
        table("How far the two maps agree", ("", ""), agreement(row, top_k)),
        tag("p", bounds_words(top_k), class_="soft"),
        folded("Every token as a table",
               table("Scores of every token", ("token", "full", "quantized", "change"), listed)),
    )  # fmt: skip


def agreement(row: Mapping[str, Any], top_k: int) -> list[tuple[str, str]]:
    """The numbers behind the words."""
    moved = None if row["l1"] is None else row["l1"] / 2
    return [
        ("rank correlation of all tokens (Spearman)", number(row["spearman"])),
        (f"strongest {top_k} tokens in common", percent(row["top_k_overlap"])),
        ("weight that has moved to other tokens", percent(moved)),
        (f"strongest {top_k} tokens whose sign changed", number(row["sign_flips"])),
        ("rank correlation of two draws of the method itself", number(row["noise_floor"])),
        ("probability of the full model's answer, full", percent(row["full_share"], 3)),
        ("the same, quantized", percent(row["quantized_share"], 3)),
        ("divergence of the two predictions (KL), nats", number(row["kl"])),
    ]


def strip(tokens: Sequence[str], scores: Sequence[float], limit: float) -> Html:
    """The tokens in a row; a line under each is as thick as its score is large, so that colour is never alone."""
    return tag("div", *(_token(*one, limit) for one in zip(tokens, scores, strict=True)), class_="strip", role="list")


def _token(token: str, score: float, limit: float) -> Html:
    share = score / limit
    line = f"{round(THICK * abs(share))}px {'dashed' if share < 0 else 'solid'}"
    look = f"background:{signed_colour(share)};border-bottom:{line}"
    return tag("span", visible(token), style=look, role="listitem", title=number(score, sign=True))


def _known(scores: Sequence[float | None]) -> list[float]:
    return [0.0 if score is None else score for score in scores]
