"""The answer of `attribute` as one JSON document and tidy tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.attribution import aggregate
from workbench.attribution.aggregate import Gathering, Granularity, Units
from workbench.attribution.questions import Posed
from workbench.attribution.result import Attribution
from workbench.attribution.verbalise import verbalise
from workbench.model.load import Identity
from workbench.results import Result

DEQUANTIZED = (
    "the quantized model is computed with the values that its codes stand for, as dense weights: products of packed"
    " codes have no gradient"
)
UNITS = ("text", "start", "end", "score", "slot")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked and what a method answered.

    Attributes:
        posed: the question.
        found: the map.
        units: the tokens at every scale.
        signed: whether the sign of a score means something.
        likeliest: next tokens with their probabilities.
        seconds: wall time of the method.
        quantized: whether a quantized model answered.
    """

    posed: Posed
    found: Attribution
    units: Units
    signed: bool
    likeliest: Sequence[Mapping[str, Any]]
    seconds: float
    quantized: bool


def to_result(
    identity: Identity, answer: Answer, asked: Mapping[str, Any], scale: Granularity | None, how: Gathering
) -> Result:
    """The document of `workbench attribute`, and the tables `tokens` and, of a granularity, `units`.

    Args:
        identity: of the model.
        answer: of the method.
        asked: keys of the document that are known from the spec.
        scale: of the units, None without them.
        how: their scores are made.
    """
    read, found = answer.posed.prompt, answer.found
    adapter = answer.posed.adapter
    units = None if scale is None else aggregate.unit_rows(adapter, read, answer.units, scale, found.scores, how)
    document = {
        "model": {"id": identity.id, "digest": identity.digest},
        **asked,
        "text": read.text,
        "tokens": list(read.tokens),
        "ids": read.ids[0].tolist(),
        "ids_sha256": hashlib.sha256(read.ids.numpy().astype("<i8").tobytes()).hexdigest(),
        "special": list(read.special),
        "fixed": list(read.fixed) or [False] * len(read.tokens),
        **_scores(answer),
        "spans": {name: [list(one) for one in cuts] for name, cuts in answer.units.spans.items()},
        "slots": [
            {"name": slot.name, "text": slot.text, "start": start, "end": stop}
            for slot, start, stop in answer.units.slots
        ],
        "granularity": scale,
        "aggregation": how,
        "units": units,
        "notes": [*found.notes, *([DEQUANTIZED] if answer.quantized else [])],
        "top": [dict(one) for one in answer.likeliest],
        "seconds": answer.seconds,
    }
    scores = found.scores.tolist()
    tables = {"tokens": pd.DataFrame({"position": range(len(scores)), "token": list(read.tokens), "score": scores})}
    if units is not None:
        tables["units"] = pd.DataFrame(units, columns=list(UNITS))
    return Result(document, tables)


def _scores(answer: Answer) -> dict[str, Any]:
    """The map and how complete it is."""
    found, tokens = answer.found, answer.posed.prompt.tokens
    return {
        "scores": found.scores.tolist(),
        "target": answer.posed.target.to_json(),
        "value": found.value,
        "baseline_value": found.baseline_value,
        "baseline": found.baseline,
        "completeness_gap": found.completeness_gap,
        "relative_gap": found.relative_gap,
        "nodes": found.nodes,
        "held_fixed": list(found.held_fixed) or [False] * len(tokens),
        "held_score": found.held_score,
        "signed": answer.signed,
        "biases": None if found.biases is None else found.biases.tolist(),
        "sentences": list(verbalise(tokens, found, answer.posed.target.label, signed=answer.signed)),
    }
