"""The part "How few bits": drift over several prompts and methods against the width."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from workbench.figures.drift import answer_curve, drift_curve
from workbench.figures.frames import keep
from workbench.ui import controls, defaults, present, rows, session, traits
from workbench.ui.defaults import PROMPT_LIMIT, Spec
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import number, plural
from workbench.ui.study import Shown

MEASURES = {
    "spearman": "rank correlation of the maps",
    "top_k_overlap": "strongest tokens in common",
    "aiou": "overlap of the maps",
}
"""Column of table `curve` -> what it is."""

MOST_PROMPTS = 32


def prompts_choice() -> list[str]:
    """Draw the box for the prompts, one a line; the example prompts for an empty one."""
    examples = defaults.drift_prompts()
    with st.expander("The prompts it is averaged over", icon=":material/notes:"):
        given = controls.area(
            "Prompts, one a line", "\n".join(examples), key="prompts", limit=PROMPT_LIMIT, height=220,
            help="The next token after each of them is explained. Ctrl+Enter takes the text over.",
        )  # fmt: skip
        lines = list(dict.fromkeys(line.strip() for line in given.splitlines() if line.strip()))
        if not lines:
            st.info("No prompt was given; the example prompts are used.")
        if len(lines) > MOST_PROMPTS:
            st.warning(f"{len(lines)} prompts were given; the first {MOST_PROMPTS} are read.")
    return lines[:MOST_PROMPTS] or examples


def methods_choice() -> list[str]:
    """Draw the choice of the methods that are compared."""
    known = list(session.descriptions("attribution"))
    first = [name for name in defaults.DRIFT_METHODS if name in known] or known[:1]
    about = "Each method's own map of the full model against its map of the quantized one, with its default options."
    return controls.several("Methods", known, first, key="drifting", help=about)


def schemes_choice(family: Spec) -> list[Spec]:
    """Draw the choice of widths; the one scheme of a quantizer of fixed width."""
    described = session.descriptions("quantizers")[family["quantizer"]]
    possible = traits.widths(described, defaults.WIDTHS)
    if traits.has_fixed_width(described) or not possible:
        return [family]
    widths = controls.segments_many("Bits", possible, possible, key="widths")
    return [{**family, "bits": bits} for bits in widths]


def estimate(prompts: Sequence[str], methods: Sequence[str], schemes: Sequence[Spec]) -> str:
    """How much work the curve is, in words."""
    maps = len(prompts) * len(methods) * (len(schemes) + 2)
    return f"about {plural(maps, 'map')}: seconds for quick methods of a small model, minutes for others"


def draw(shown: Shown, scheme: Spec) -> None:
    """Curve of the maps, the answers beside it, what they say in a sentence, and the prompts one by one."""
    document = shown.document
    frame = placed(shown.tables["curve"])
    measure = controls.segments("Maps by", list(MEASURES), "spearman", key="agreeing", show=MEASURES.__getitem__)
    selected = width_words(scheme["bits"])
    st.write(curve_sentence(frame, len(document["prompts"])))
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown("**Same reasons?**")
        _draw_maps(shown, frame, measure, selected)
    with right:
        st.markdown("**Same answer?**")
        _draw_answers(frame, selected, len(document["prompts"]))
    present.table(
        shown.tables["prompts"].assign(prompt=shown.tables["prompts"]["prompt"] + 1),
        key="curve-prompts",
        file_name="drift-prompts.csv",
        label="Every prompt by itself",
    )


def width_words(bits: object) -> str:
    """A width as it is called on the axis."""
    return "fixed width" if bits is None or pd.isna(bits) else f"{bits} bit{'' if bits == 1 else 's'}"  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]


def placed(curve: pd.DataFrame) -> pd.DataFrame:
    """Table `curve` or `prompts` with the place of every width on the axis, fewest bits first, and its name."""
    known = [None if pd.isna(bits) else int(bits) for bits in curve["bits"]]
    order = sorted(set(known), key=lambda bits: math.inf if bits is None else bits)
    return curve.assign(place=[order.index(bits) for bits in known], width=[width_words(bits) for bits in known])


def _draw_maps(shown: Shown, frame: pd.DataFrame, measure: str, selected: str) -> None:
    spread = _spread(shown.tables["prompts"], measure)
    keys = list(zip(frame["method"], frame["label"], strict=True))
    held = frame.assign(least=[min(spread[key]) for key in keys], most=[max(spread[key]) for key in keys])
    floors = {name: one.get(measure) for name, one in shown.document["floors"].items()}
    worst = rows.smallest(frame, measure)
    present.chart(
        drawing(drift_curve, held, value=measure, unit=MEASURES[measure], floors=floors, selected=selected),
        alt=f"{MEASURES[measure].capitalize()} of {plural(len(set(frame['method'])), 'method')} by width, mean over "
        f"{plural(len(shown.document['prompts']), 'prompt')}. Least: {worst['method']} at {worst['width']}, "
        f"{number(worst[measure])}.",
        key="drift-curve",
        table_of=held.drop(columns=["place", "width", "label"]),
        file_name="drift.csv",
    )


def _spread(prompts: pd.DataFrame, measure: str) -> dict[tuple[str, str], list[float]]:
    """Method and label of a choice -> the measure of every prompt that has one; NaN alone where none has."""
    found: dict[tuple[str, str], list[float]] = {}
    for method, label, value in zip(prompts["method"], prompts["label"], prompts[measure], strict=True):
        known = found.setdefault((method, label), [])
        known += [] if pd.isna(value) else [float(value)]
    return {key: known or [math.nan] for key, known in found.items()}


def _draw_answers(frame: pd.DataFrame, selected: str, prompts: int) -> None:
    answers = frame.drop_duplicates("label")
    for column, unit in (("top1_agreement", "share with the same answer"), ("kl", "KL, nats")):
        share = column == "top1_agreement"
        worst = rows.smallest(answers, column) if share else rows.largest(answers, column)
        present.chart(
            drawing(answer_curve, answers, value=column, unit=unit, most=1 if share else None, selected=selected),
            alt=f"{unit.capitalize()} by width, over {plural(prompts, 'prompt')}. Worst at {worst['width']}: "
            f"{number(worst[column])}.",
            key=f"answers-{column}",
            table_of=pd.DataFrame(answers, columns=["width", column]),
            file_name=f"answers-{column}.csv",
        )


def curve_sentence(frame: pd.DataFrame, prompts: int) -> str:
    """Down to which width the answers hold, and what has become of the reasons there; safe in Markdown."""
    answers = frame.drop_duplicates("label").sort_values("place")
    kept = max(answers["top1_agreement"].tolist())
    best = keep(answers, answers["top1_agreement"] == kept)
    place, width = best["place"].iloc[0], str(best["width"].iloc[0])
    part = keep(frame, frame["width"] == width)
    told = _listed(part["method"].tolist(), part["spearman"].tolist())
    fewer = keep(answers, answers["place"] < place)["top1_agreement"].tolist()
    below = f" With fewer bits as few as {round(min(fewer) * prompts)} of {prompts} keep it." if fewer else ""
    whose = _every(prompts) if kept == 1 else f"{round(kept * prompts)} of {prompts} prompts, more than at other widths"
    return (
        f"At **{markdown(width)}** the answer is the same for {whose}; the order of the tokens behind the answers then "
        f"agrees to {told} (rank correlation, mean over prompts).{below}"
    )


def _every(prompts: int) -> str:
    return "the one prompt" if prompts == 1 else f"all {prompts} prompts"


def _listed(names: Sequence[str], values: Sequence[float | None]) -> str:
    return ", ".join(f"{number(value, 2)} by {markdown(name)}" for name, value in zip(names, values, strict=True))
