"""Plans along a range of budgets on the Trade-off page: what is asked, and its points joined with those by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from workbench.errors import WorkbenchError, shown
from workbench.ui import choices, controls, defaults, mixing
from workbench.ui.defaults import Mix, Question, Spec, Texts
from workbench.ui.escape import markdown
from workbench.ui.quality import uncrowded
from workbench.ui.study import Shown
from workbench.ui.trade_off import Points, judged, plans_of, readable

BUDGETS_AT_MOST = 16
NO_RULES = "none"
MEASURED = ("label", "kind", "mark", "stored_bits", "perplexity", "loss", "delta_loss", "delta_standard_error",
            "kl_mean", "top1_agreement", "budget", "predicted_loss", "reason")  # fmt: skip
"""Columns that points of both studies have, or are given empty."""


def question(model: str, texts: Texts, mix: Mix) -> Question | None:
    """Draw what is asked of the plans along budgets; None where the budgets cannot be read, with the reason."""
    about = "Stored bits per weight, scales and zero points included, with commas between them."
    usual = ", ".join(f"{budget:g}" for budget in defaults.BUDGETS)
    with st.expander("Plans along budgets", icon=":material/timeline:", expanded=True):
        given = controls.line("Budgets", usual, key="budgets", help=about)
        ways, rules = mixing.ways_choice(), _rules_choice()
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            fused = mixing.fused_choice()
            seconds = controls.number(
                "Seconds for swaps a budget", 0, key="swaps", low=0, high=600, step=5, width=220,
                help="Where sums fail, measured swaps may improve a plan for so long.",
            )  # fmt: skip
    try:
        budgets = read_budgets(given)
    except WorkbenchError as error:
        st.error(markdown(f"This was not taken: {error}."), icon=":material/error:")
        return None
    asked = {"fused": fused, "ways": ways, "rules": rules, "refine_seconds": seconds}
    return defaults.front(model, texts, budgets=budgets, mix=mix, **asked)


def _rules_choice() -> list[str]:
    offered = [NO_RULES, *choices.metrics()]
    usual = [name for name in defaults.RULES if name in offered] or [NO_RULES]
    about = "For comparison: the matrices of the highest mean salience get more bits, nothing is measured to choose."
    chosen = controls.several("Rules of thumb by", offered, usual, key="rules", help=about)
    return [] if NO_RULES in chosen else chosen


def read_budgets(text: str) -> list[float]:
    """Budgets from what was typed, from small to large.

    Raises:
        WorkbenchError: no numbers, none, or too many.
    """
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    try:
        found = sorted({float(part) for part in parts})
    except ValueError:
        raise WorkbenchError(f"the budgets {shown(text)} are no numbers with commas between them") from None
    if not 1 <= len(found) <= BUDGETS_AT_MOST or not all(math.isfinite(one) and one > 0 for one in found):
        raise WorkbenchError(f"the budgets {shown(text)} should be 1 to {BUDGETS_AT_MOST} numbers above zero")
    return found


def gather(by_hand: Shown | None, along: Shown | None) -> Points | None:
    """The points of both studies; of the plans along budgets alone those that were measured on the same text."""
    if by_hand and along and _text_of(by_hand) != _text_of(along):
        st.info("The plans along budgets were measured on another text and are left out here; compute them again.")
        along = None
    there = [one for one in (by_hand, along) if one is not None]
    if not there:
        return None
    frame, plans = (_by_hand(by_hand), plans_of(by_hand)) if by_hand else (pd.DataFrame(), {})
    if along:
        frame, plans = _joined(frame, plans, *front_rows(along))
    place = next((one for one in reversed(there) if one.stale), there[-1])
    reference = there[0].document["reference"]["perplexity"]
    return Points(_marked(judged(frame)), plans, reference, there[0].document["text"], place)


def _text_of(found: Shown) -> str:
    return found.document["text"]["token_ids_sha256"]


def _by_hand(found: Shown) -> pd.DataFrame:
    held = readable(found)
    widths = {point["label"]: (point.get("scheme") or {}).get("bits") for point in found.spec["points"]}
    marks = ["" if widths[label] is None else f"{widths[label]} bit" for label in held["label"]]
    marks = [
        mark if kind == "uniform" else label
        for mark, kind, label in zip(marks, held["kind"], held["label"], strict=True)
    ]
    return held.assign(mark=marks).reindex(columns=MEASURED)


def front_rows(along: Shown) -> tuple[pd.DataFrame, dict[str, Spec]]:
    """The points of the study `front` and their plans by label."""
    named = {"points": _of_budget, "uniform": _of_width, "rules": _of_rule}
    rows = [{**one, **name(one)} for part, name in named.items() for one in along.document[part]]
    return pd.DataFrame(rows).reindex(columns=MEASURED), {row["label"]: row["plan"] for row in rows}


def _of_budget(one: Spec) -> dict[str, str]:
    budget = f"{one['budget']:g}"
    return {"kind": "front", "label": f"budget {budget}: {one['label']}", "mark": budget}


def _of_width(one: Spec) -> dict[str, str]:
    width = f"{one['bits']} bit"
    return {"kind": "uniform", "label": f"uniform {one['quantizer']} {width}", "mark": width}


def _of_rule(one: Spec) -> dict[str, str]:
    rule = f"most {one['metric']} first"
    return {"kind": rule, "label": f"{rule}, {one['budget']:g}", "mark": ""}


def _joined(
    frame: pd.DataFrame, plans: dict[str, Spec], others: pd.DataFrame, other_plans: dict[str, Spec]
) -> tuple[pd.DataFrame, dict[str, Spec]]:
    """Both sets of points; a uniform point that stands in both keeps its name by hand and gets its plan."""
    held = {
        (row["stored_bits"], row["perplexity"]): row["label"]
        for row in frame.to_dict("records")
        if row["kind"] == "uniform"
    }
    plans, kept = dict(plans), []
    for row in others.to_dict("records"):
        known = held.get((row["stored_bits"], row["perplexity"])) if row["kind"] == "uniform" else None
        plans[row["label"] if known is None else known] = other_plans[str(row["label"])]
        if known is None:
            kept.append(row)
    parts = [part for part in (frame, pd.DataFrame(kept, columns=list(MEASURED))) if len(part)]
    return pd.concat(parts, ignore_index=True), plans


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    """Where points crowd, only the best of them carries its mark: the others' would cover it."""
    heights: Sequence[float] = [math.log(value) for value in frame["perplexity"]]
    free = uncrowded(frame["stored_bits"].tolist(), list(heights))
    return frame.assign(mark=[mark if alone else "" for mark, alone in zip(frame["mark"], free, strict=True)])
