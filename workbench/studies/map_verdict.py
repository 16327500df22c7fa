"""Compared maps as one document and tidy tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.attribution.tokens import Prompt
from workbench.measures.faithfulness import step_counts
from workbench.model.load import Identity
from workbench.results import Result
from workbench.studies.map_agreement import MEASURES, agreement_rows, square
from workbench.studies.map_scores import Judge

NOTES = (
    "Agreement between methods is no sign of being right: methods that find the same cause may order the rest"
    " differently, and methods that agree may be wrong together.",
    "Removed tokens are replaced by the baseline's embedding at their place; the model was never trained on such"
    " prompts.",
    "Numbers of removal are to be read beside those of random orders: z counts their standard deviations, above 0 is"
    " better than their mean.",
)
DIRECTIONS = {
    "deletion_auc": "low",
    "insertion_auc": "high",
    "comprehensiveness": "high",
    "sufficiency": "low",
    "infidelity": "low",
    "sensitivity_n": "high",
    "completeness_gap": "near 0",
    "randomised_spearman": "near 0",
    "class_spearman": "near 0",
}
"""Which direction is good."""
NUMBERS = [
    "deletion_auc",
    "deletion_z",
    "deletion_percentile",
    "insertion_auc",
    "insertion_z",
    "insertion_percentile",
    "comprehensiveness",
    "comprehensiveness_z",
    "sufficiency",
    "sufficiency_z",
    "random_auc",
    "random_sd",
    "completeness_gap",
    "relative_gap",
    "infidelity",
    "gini",
    "entropy",
    "randomised_spearman",
    "class_spearman",
]
"""Columns of the table of methods."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was found; `rows` are the numbers of each method by its name."""

    identity: Identity
    read: Prompt
    target: Target
    judge: Judge
    maps: Mapping[str, Attribution]
    rows: Mapping[str, dict[str, Any]]
    refused: Sequence[Mapping[str, str]]
    baselines: Sequence[Mapping[str, Any]]
    top_k: int


def verdict(found: Verdict) -> Result:
    """The document of `workbench compare-attribution` and the tables `methods`, `curves`, `agreement`, `scores`."""
    removal, areas = found.judge.removal, found.judge.band.areas
    units = {name: one.scores[removal.places] for name, one in found.maps.items()}
    pairs = agreement_rows(units, {name: row["signed"] for name, row in found.rows.items()}, found.top_k)
    methods = [_method(found, name) for name in found.maps]
    document = {
        "model": {"id": found.identity.id, "digest": found.identity.digest},
        "prompt": found.read.text,
        "tokens": list(found.read.tokens),
        "ids": found.read.ids[0].tolist(),
        "special": list(found.read.special),
        "target": found.target.to_json(),
        "removal": {
            "replaced_by": removal.baseline,
            "measure": found.judge.measure,
            "tokens": removal.units,
            "full": float(found.judge.band.deletion[0, 0]),
            "none": float(found.judge.band.deletion[0, -1]),
        },
        "random": {"orders": len(areas), "auc": float(areas.mean()), "sd": float(areas.std())},
        "methods": methods,
        "refused": list(found.refused),
        "names": list(found.maps),
        "top_k": found.top_k,
        **{measure: square(pairs, measure) for measure in MEASURES},
        "baseline_sensitivity": list(found.baselines),
        "directions": DIRECTIONS,
        "notes": [*found.target.notes, *NOTES],
    }
    return Result(document, _tables(found, methods, pairs))


def _method(found: Verdict, name: str) -> dict[str, Any]:
    """All that is known of one method's map."""
    one, row = found.maps[name], dict(found.rows[name])
    del row["curves"]
    areas = found.judge.band.areas
    return {
        **row,
        "z": row["deletion_z"],
        "random_auc": float(areas.mean()),
        "random_sd": float(areas.std()),
        "value": one.value,
        "completeness_gap": one.completeness_gap,
        "relative_gap": one.relative_gap,
        "scores": one.scores.tolist(),
        "notes": list(one.notes),
    }


def _tables(
    found: Verdict, methods: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]
) -> dict[str, pd.DataFrame]:
    scores = [
        {"method": name, "position": position, "token": token, "score": score}
        for name, one in found.maps.items()
        for position, (token, score) in enumerate(zip(found.read.tokens, one.scores.tolist(), strict=True))
    ]
    table = pd.DataFrame([{"method": row["name"], **{key: row.get(key) for key in NUMBERS}} for row in methods])
    measures = ["baseline", "other", *MEASURES]
    return {
        "methods": table.astype(dict.fromkeys(NUMBERS, "float64")),
        "curves": pd.DataFrame(_curves(found)),
        "agreement": pd.DataFrame(pairs).astype(dict.fromkeys(MEASURES, "float64")),
        "scores": pd.DataFrame(scores),
        "baselines": pd.DataFrame(found.baselines, columns=measures).astype(dict.fromkeys(MEASURES, "float64")),
    }


def _curves(found: Verdict) -> Iterator[dict[str, Any]]:
    """Deletion and insertion of each method, and the mean of random orders with their standard deviation."""
    removed = (step_counts(found.judge.removal.units).double() / found.judge.removal.units).tolist()
    for name, row in found.rows.items():
        for curve, values in row["curves"].items():
            for share, value in zip(removed, values, strict=True):
                yield {"method": name, "curve": curve, "removed": share, "value": value, "sd": None}
    drawn = found.judge.band.deletion
    # random orders read backwards are random too: one band for both
    for curve, sides in (("deletion", drawn), ("insertion", drawn.flip(1))):
        for share, mean, sd in zip(removed, sides.mean(0).tolist(), sides.std(0).tolist(), strict=True):
            yield {"method": "random", "curve": curve, "removed": share, "value": mean, "sd": sd}
