"""The parts of the Demo page: which models, how they write, their texts, sizes and reasons side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from workbench.report.markup import marked, tag
from workbench.ui import controls, defaults, present, reasons_verdict
from workbench.ui.attribution import known
from workbench.ui.defaults import Spec
from workbench.ui.desk import Desk
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, percent, plural, size
from workbench.ui.sentences import quoted
from workbench.ui.study import Shown, study
from workbench.ui.tokens import token_strip
from workbench.ui.trade_off import PLANS, plan_point, session_plans

FULL = "Full precision"
WIDTHS, USUAL = (8, 4, 3, 2), 3
NEW_TOKENS = (16, 32, 48, 96)
TEMPERATURE = 0.8
SEED_AT_MOST = 9999

TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid #8886;border-radius:.5rem;padding:.8rem"
STYLE = "mark{background:#e69f0055;color:inherit;text-decoration:underline 2px}"

Row = Mapping[str, Any]


def points_choice(model: str) -> list[Spec]:
    """Draw the two choices; returns those to measure beside the full model, at least one."""
    _draw_upload(model)
    offered: dict[str, Spec | None] = {FULL: None}
    offered |= {point["label"]: point for point in map(defaults.width_point, WIDTHS)}
    offered |= {PLANS[name].capitalize(): plan_point(PLANS[name], text) for name, text in session_plans(model).items()}
    names, usual = list(offered), defaults.width_point(USUAL)["label"]
    left, right = st.columns(2, gap="large")
    with left:
        one = controls.segments("One model", names, FULL, key="left")
    with right:
        other = controls.segments("The other", names, usual, key="right")
    chosen = [offered[name] for name in dict.fromkeys((one, other))]
    points = [point for point in chosen if point is not None]
    if not points:
        st.info(f"Both choices are the full model; {usual} stand beside it.")
    return points or [defaults.width_point(USUAL)]


def _draw_upload(model: str) -> None:
    """A plan of one's own, which then is the plan of Bit allocation, too."""
    desk = Desk(model)
    with st.expander("Bring a plan of your own"):
        inspected = study(*defaults.inspect(model), label="the matrices of the model", slot="sizes", auto=True)
        if inspected:
            key = f"demo-upload-{desk.turn}"
            st.file_uploader(
                "A plan's file", type=["json", "txt"], key=key, max_upload_size=1, on_change=_take_upload,
                args=(key, desk, inspected.document),
                help="For this model, as the page Bit allocation takes it; it becomes the plan of that page, too.",
            )  # fmt: skip
    if desk.trouble:
        st.warning(markdown(desk.trouble))


def _take_upload(key: str, desk: Desk, inspected: Row) -> None:
    file = st.session_state[key]
    if file is not None:
        desk.upload(file.getvalue(), inspected)


def writing_choice() -> tuple[int, float, int]:
    """Draw how the texts are written: most tokens, temperature, seed."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        new = controls.segments("New tokens", NEW_TOKENS, defaults.NEW_TOKENS, key="new_tokens")
        about = "Off: always the likeliest token. On: drawn by chance, with the same dice for all models."
        drawn = controls.toggle("Draw words by chance", key="drawn", help=about)
        seed = controls.number("Seed", 0, key="dice", low=0, high=SEED_AT_MOST, step=1, width=130) if drawn else 0
    return new, TEMPERATURE if drawn else 0.0, seed


def choices_of(spec: Spec) -> Iterator[tuple[str, Any]]:
    """The controls' keys and values that lead to a spec; plans are not in an address, their places stay as they are."""
    widths = [one["scheme"]["bits"] for one in spec["choices"] if one.get("scheme")]
    named = [FULL, *(plural(bits, "bit") for bits in widths)][-2:]
    if len(widths) == len(spec["choices"]):
        yield from zip(("left", "right"), named, strict=True)
    yield from (("new_tokens", spec["new_tokens"]), ("drawn", spec["temperature"] > 0), ("dice", spec["seed"]))


def draw_sentences(shown: Shown) -> None:
    """Each smaller model in plain words."""
    full, *others = shown.document["choices"]
    with st.container(border=True):
        for one in others:
            st.markdown(sentence(full, one))


def sentence(full: Row, one: Row) -> str:
    """What one model takes and loses beside the full one, safe in Markdown."""
    before, after = full["stored_bytes"], one["stored_bytes"]
    told = f"**{markdown(one['label'])}** takes {size(after)} as a file instead of {size(before)}"
    told += f" ({percent(after / before)})"
    if one["perplexity"] is None or full["perplexity"] is None:
        return f"{told}, but its loss on the evaluation text is not finite: it does not work."
    told += f" and hesitates between {number(one['perplexity'])} tokens instead of {number(full['perplexity'])}. "
    if one["ids"] == full["ids"]:
        return told + "It writes the very same text."
    start = one["same_start"]
    alike = f"writes the same first {plural(start, 'token')}" if start > 1 else "takes another way at once"
    words = f"{one['changed_words']} of its {plural(one['words'], 'word')} are not in the full model's text"
    return f"{told}It {alike}; {words}."


def draw_texts(shown: Shown) -> None:
    """A column a model; changed words are underlined."""
    rows = shown.document["choices"]
    for column, one in zip(st.columns(len(rows), gap="medium"), rows, strict=True):
        with column:
            st.markdown(f"**{markdown(_name(one))}**")
            st.html(tag("style", STYLE) + tag("div", marked(one["pieces"]), style=TEXT))
    st.caption("The prompt is not repeated. Underlined words are not in the full model's text.")


def draw_sizes(shown: Shown) -> None:
    """Sizes, speed and perplexity as a small table, and all that was measured below it."""
    rows = shown.document["choices"]
    facts = {
        "as a file": [size(one["stored_bytes"]) for one in rows],
        "in memory, as it runs here": [size(one["memory_bytes"]) for one in rows],
        "stored bits a weight": [number(one["stored_bits"]) for one in rows],
        "tokens a second": [number(one["tokens_per_second"]) for one in rows],
        "hesitates between tokens (perplexity)": [number(one["perplexity"]) for one in rows],
        "same next token on the evaluation text": [percent(one["top1_agreement"], 3) for one in rows],
    }
    frame = pd.DataFrame.from_dict(facts, orient="index", columns=[_name(one) for one in rows])
    st.table(frame.rename_axis("").reset_index(), hide_index=True, border="horizontal", alt="Size, speed and quality")
    device = shown.document["device"]
    dense = [one["label"] for one in rows[1:] if not one["packed"]]
    told = f"Speed as measured when this was computed, on {device['name']} ({device['processor']}) with "
    told += f"{plural(device['threads'], 'thread')}; the full model runs in float32"
    st.caption(markdown(f"{told}; not from packed codes: {', '.join(dense)}." if dense else f"{told}."))
    present.table(shown.tables["choices"], key="demo-table", file_name="demo.csv", label="All that was measured")


def draw_reasons(shown: Shown) -> None:
    """The verdict for each smaller model, and the token strips of both on one scale."""
    document = shown.document
    for place, one in enumerate(document["choices"][1:]):
        row = one["reasons"]
        answer = reasons_verdict.answer_light(row)
        why = reasons_verdict.reasons_light(row, document["method"], document["top_k"])
        st.markdown(f"**{markdown(one['label'])}: {reasons_verdict.headline(answer, why)}** {moved_sentence(row)}")
        before, after = known(row["full_scores"]), known(row["quantized_scores"])
        limit = max((abs(score) for score in (*before, *after)), default=0.0)
        for name, scores in ((FULL, before), (_name(one), after)):
            st.caption(markdown(name))
            token_strip(
                row["tokens"], scores, key=f"demo-strip-{place}-{name == FULL}", label=f"Tokens by attribution, {name}",
                limit=limit, signed=row["signed"], fixed=row["held_fixed"],
            )  # fmt: skip
        frame = pd.DataFrame({"token": row["tokens"], "full": before, "quantized": after})
        present.table(frame, key=f"demo-tokens-{place}", file_name="reasons.csv", label="The tokens as a table")
    st.caption(reasons_verdict.bounds_words(document["top_k"]))


def moved_sentence(row: Row) -> str:
    """The token whose part has changed most, safe in Markdown."""
    changes = [
        after - before for before, after in zip(known(row["full_scores"]), known(row["quantized_scores"]), strict=True)
    ]
    place = max(range(len(changes)), key=lambda index: abs(changes[index]))
    if not changes[place]:
        return "No token counts more or less than before."
    way = "more" if changes[place] > 0 else "less"
    return (
        f"Token {place + 1}, {quoted(row['tokens'][place])}, changed most: it pushes {way} towards "
        f"{quoted(row['target']['texts'][0])} than in the full model."
    )


def _name(one: Row) -> str:
    return FULL if one["reasons"] is None else one["label"]
