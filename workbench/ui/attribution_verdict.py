"""The trial of maps as tables and sentences: every number with the direction that is good. No Streamlit here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.ui.numbers import number, percent, plural

LOWER, HIGHER, ZERO, RANDOM = "lower", "higher", "near 0", "above 2"
SURE = 0.95
"""Share of random orders that a map beats, from which that is said to be no chance."""

ALIKE = 0.5
"""Rank correlation with the map of shuffled weights above which a map is said to be much the same."""

METRICS = {
    ("relative_gap",): ("completeness: part that the scores miss", ZERO),
    ("deletion_auc",): ("deletion: area while the top tokens go first", LOWER),
    ("deletion_z",): ("deletion against random orders, z", RANDOM),
    ("insertion_auc",): ("insertion: area while the top tokens come first", HIGHER),
    ("insertion_z",): ("insertion against random orders, z", RANDOM),
    ("comprehensiveness",): ("comprehensiveness: probability lost without the top tokens", HIGHER),
    ("comprehensiveness_z",): ("comprehensiveness against random orders, z", RANDOM),
    ("sufficiency",): ("sufficiency: probability lost with the top tokens alone", LOWER),
    ("sufficiency_z",): ("sufficiency against random orders, z", RANDOM),
    ("infidelity",): ("infidelity: miss in foretelling removals", LOWER),
    ("sensitivity_n", "1"): ("sensitivity-n: correlation with removing 1 token", HIGHER),
    ("sensitivity_n", "2"): ("sensitivity-n: correlation with removing 2 tokens", HIGHER),
    ("sensitivity_n", "4"): ("sensitivity-n: correlation with removing 4 tokens", HIGHER),
    ("randomised_spearman",): ("same map with shuffled weights, rank correlation", ZERO),
    ("class_spearman",): ("same map for the least likely token, rank correlation", ZERO),
}
"""Where a number stands in a method's document -> what it is, and which direction is good."""

GROUPS = {
    ("rfxg", "ccs"): ("CCS: the token less the contrast, while the top tokens go", LOWER),
    ("rfxg", "cgc"): ("CGC: change of the token less that of its group", LOWER),
    ("rfxg", "pgs"): ("PGS: mean fall of group A", HIGHER),
    ("rfxg", "cgs"): ("CGS: change of group A less that of group B", LOWER),
    ("rfxg", "cgc_code"): ("CGC as in the released code: both changes added", LOWER),
    ("rfxg", "cgs_code"): ("CGS as in the released code: both changes added", LOWER),
}
"""The metrics of groups of next tokens (RFxG)."""

PLAUSIBLE = {
    ("plausibility", "auprc"): ("area under precision and recall", HIGHER),
    ("plausibility", "token_f1"): ("F1 of as many top tokens as are marked", HIGHER),
    ("plausibility", "iou"): ("intersection over union of the same", HIGHER),
    ("plausibility", "aiou"): ("attention IoU: overlap of the sizes with the mark", HIGHER),
    ("plausibility", "pointing"): ("the strongest token is marked", HIGHER),
}
"""How far a map marks what a person marked."""

Rows = Mapping[tuple[str, ...], tuple[str, str]]


def verdict_table(methods: Sequence[Mapping[str, Any]], rows: Rows = METRICS) -> pd.DataFrame:
    """Columns `metric`, `better` and one a method; metrics that no method has are left out."""
    held = []
    for path, (words, better) in rows.items():
        values = {one["name"]: _at(one, path) for one in methods}
        if any(value is not None for value in values.values()):
            held.append({"metric": words, "better": better, **values})
    names = [str(one["name"]) for one in methods]
    return pd.DataFrame(held, columns=["metric", "better", *names]).astype(dict.fromkeys(names, "float64"))


def _at(document: Any, path: Sequence[str]) -> float | None:
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def verdict_sentences(document: Mapping[str, Any]) -> Iterator[str]:
    """Which maps beat random orders, and which show little of what the model learned; plain text."""
    methods, orders = document["methods"], document["random"]["orders"]
    told = [
        f"{one['name']} faster than {_draws(one['deletion_percentile'], orders)} of {orders} (z "
        f"{number(one['deletion_z'], 2)})"
        for one in methods
    ]
    yield (
        "Taking tokens away in the order of a map lowers what is explained faster than taking them away in random "
        f"order does, if the map is good. Here {_listed(told)}. Fewer than {SURE * orders:g} of {orders} may be "
        "chance."
    )
    alike = [one["name"] for one in methods if (one.get("randomised_spearman") or 0.0) > ALIKE]
    if alike:
        yield (
            f"With shuffled weights these maps are much the same (rank correlation above {ALIKE:g}), so that they show "
            f"little of what the model learned: {_listed(alike)}."
        )


def _draws(share: float | None, orders: int) -> str:
    """How many of the random orders a share stands for; draws count half."""
    return "none" if share is None else f"{share * orders:g}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def baseline_sentence(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """How much the choice of baseline changes integrated gradients; None where fewer than two could be compared."""
    pairs = [one for one in rows if one["baseline"] < one["other"] and one["spearman"] is not None]
    if not pairs:
        return None
    least = min(pairs, key=lambda one: one["spearman"])
    return (
        f"Integrated gradients from {plural(len({one['baseline'] for one in rows}), 'baseline')} agree at least with a "
        f"rank correlation of {number(least['spearman'], 2)} ({least['baseline']} and {least['other']}), of the top "
        f"tokens {percent(least['top_k_overlap'])} are the same. The lower, the more the map rests on the baseline."
    )
