"""The part "Tokens to blame": which ones make the quantized model's prediction differ."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from workbench.figures.blame import blame_bars
from workbench.figures.frames import keep
from workbench.ui import present
from workbench.ui.attribution import numbered
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, plotly_text, visible
from workbench.ui.numbers import number, percent
from workbench.ui.sentences import quoted
from workbench.ui.study import Shown
from workbench.ui.tokens import Look, Span, span_strip

LISTED = 12
"""Tokens in the chart; the table holds all of them."""

ENDS = ("keeps the models together", "drives them apart")
CLOSING = "\"')\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
"""What may stand behind the end of a sentence and belongs to it."""

BEFORE, AFTER = "before", "with the added text"


def draw(shown: Shown) -> Span | None:
    """Strip and chart of all tokens, worst first; returns the tokens that were chosen in the strip."""
    document = shown.document
    st.write(blame_sentence(document["kl"], document["tokens"], document["scores"]))
    chosen = span_strip(
        document["tokens"],
        document["scores"],
        key="strip-blame",
        label="Tokens by blame for the divergence",
        look=Look(fixed=document["held_fixed"], ends=ENDS),
    )
    st.caption("A second click with Shift held chooses a span.")
    _draw_list(shown)
    return chosen


def blame_sentence(divergence: float, tokens: Sequence[str], scores: Sequence[float]) -> str:
    """How far the predictions are apart, and the worst token; safe in Markdown."""
    told = f"After this prompt the predictions of the two models are {number(divergence)} nats apart (KL). "
    worst = max(range(len(scores)), key=scores.__getitem__)
    if scores[worst] <= 0:
        return told + "No single token is to blame: whichever is replaced, the models then differ as much or more."
    share = percent(scores[worst] / divergence) if divergence else None
    return told + (
        f"Most to blame is {quoted(tokens[worst])} (token {worst + 1}): with it replaced they are "
        f"{number(scores[worst])} nats closer" + (f", {share} of all." if share else ".")
    )


def ranked(shown: Shown) -> pd.DataFrame:
    """Table `tokens` of study `blame`, worst first, without the tokens that are never replaced."""
    frame, held = shown.tables["tokens"], shown.document["held_fixed"]
    free = keep(frame, [not held[place] for place in frame["position"]])
    return free.sort_values("blame", ascending=False, kind="stable").reset_index(drop=True)


def _draw_list(shown: Shown) -> None:
    frame = ranked(shown)
    top = frame.head(LISTED)
    present.chart(
        drawing(
            blame_bars, top.assign(label=_labels(top)), series=["blame"], unit="divergence that goes without it, nats"
        ),
        alt=f"The {len(top)} tokens to blame most, worst first: "
        + ", ".join(
            f"{visible(token)} {number(blame)}" for token, blame in zip(top["token"], top["blame"], strict=True)
        )
        + ".",
        key="blame-bars",
        table_of=numbered(frame),
        file_name="blame.csv",
    )


def _labels(frame: pd.DataFrame) -> list[str]:
    return [
        f"{plotly_text(token)} ({place + 1})" for token, place in zip(frame["token"], frame["position"], strict=True)
    ]


def draw_change(before: Shown, after: Shown) -> None:
    """What another calibration text changed: the divergence, and the blame of the tokens in both."""
    old, new = before.document["kl"], after.document["kl"]
    st.write(change_sentence(old, new))
    frame = ranked(before).rename(columns={"blame": BEFORE})
    scores = after.document["scores"]
    frame = frame.assign(**{AFTER: [scores[place] for place in frame["position"]]})
    top = frame.head(LISTED)
    present.chart(
        drawing(blame_bars, top.assign(label=_labels(top)), series=[BEFORE, AFTER], unit="blame, nats"),
        alt=f"Blame of the {len(top)} worst tokens before and with the added text. The divergence was {number(old)} "
        f"and is {number(new)} nats.",
        key="blame-change",
        table_of=numbered(frame),
        file_name="blame-change.csv",
    )


def change_sentence(old: float, new: float) -> str:
    """The divergence with either calibration text."""
    share = f", {percent(abs(new - old) / old)} {'less' if new <= old else 'more'}" if old else ""
    return (
        f"With the added text the predictions are **{number(new)}** nats apart, before they were {number(old)}{share}. "
        "A prompt that was calibrated on is no test: whether other prompts gain too, the part above tells for those "
        "that you give it, and Trade-off for the evaluation text."
    )


def passages(prompt: str, tokens: Sequence[str], scores: Sequence[float], worst: int = 3) -> list[str]:
    """The sentences of a prompt that hold its worst tokens, those with a blame above zero alone."""
    order = sorted(range(len(tokens)), key=lambda place: -scores[place])[:worst]
    blamed = {place for place in order if scores[place] > 0}
    held = [span for span in sentences(tokens) if blamed & set(range(*span))]
    return list(dict.fromkeys(passage(prompt, tokens, span) for span in held))


def passage(prompt: str, tokens: Sequence[str], span: Span) -> str:
    """The text of some tokens; the whole prompt where tokens are no whole characters."""
    text = "".join(tokens[span[0] : span[1]]).strip()
    return text if text and text in prompt else prompt


def sentences(tokens: Sequence[str]) -> list[Span]:
    """First and one past the last token of every sentence; quotation marks behind its end belong to it."""
    found, start, ended = [], 0, False
    for place, token in enumerate(tokens):
        text = token.strip()
        if ended and not (text and set(text) <= set(CLOSING)):
            found.append((start, place))
            start, ended = place, False
        ended = ended or "\n" in token or text.rstrip(CLOSING)[-1:] in (".", "!", "?", "…")
    return [*found, (start, len(tokens))] if tokens else []


def span_words(tokens: Sequence[str], span: Span) -> str:
    """A span in quotation marks, safe in Markdown."""
    return f"“{markdown(visible(''.join(tokens[span[0] : span[1]])))}”"
