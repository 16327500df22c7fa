"""One row a prompt: the map of the full model beside that of the quantized one; their means and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.attribution.result import Attribution
from workbench.attribution.tokens import Prompt
from workbench.measures.divergence import kl
from workbench.measures.map_similarity import centre_shift, l1_distance, sign_flips_among_top
from workbench.studies.map_agreement import pair
from workbench.studies.map_checks import Question

MEANS = (
    "spearman", "kendall", "top_k_overlap", "aiou", "l1", "centre_shift", "sign_flips", "noise_floor", "kl",
)  # fmt: skip


Floor = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Side:
    """One model's map and its logits of the next token."""

    map: Attribution
    logits: Float[Tensor, " vocab"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt and what is explained; `again` is the method with another draw, None for one without chance."""

    question: Question
    read: Prompt
    again: Question | None


def free_tokens(found: Attribution, read: Prompt) -> Bool[Tensor, " tok"]:
    """The tokens whose scores are compared: those of content that are not held fixed."""
    free = ~torch.tensor(read.special)
    return free & ~torch.tensor(found.held_fixed) if found.held_fixed else free


def row(place: int, asked: Asked, full: Side, quantized: Side, floor: Floor, top_k: int) -> dict[str, Any]:
    """One prompt of the document; `floor` is how far two draws of the full model's map agree, by measure."""
    free = free_tokens(full.map, asked.read)
    sides = full.map.scores[free], quantized.map.scores[free]
    answers = [int(side.logits.argmax()) for side in (full, quantized)]
    vocabulary = asked.question.adapter.vocabulary
    target = asked.question.target
    return {
        "prompt": asked.read.text,
        "number": place,
        **pair(*sides, signed=asked.question.method.signed, top_k=top_k),
        "sign_flips": sign_flips_among_top(*sides, top_k),
        "l1": l1_distance(*sides),
        "centre_shift": centre_shift(*sides),
        "noise_floor": floor["spearman"],
        "noise_l1": floor["l1"],
        "tokens": list(asked.read.tokens),
        "ids": asked.read.ids[0].tolist(),
        "special": list(asked.read.special),
        "held_fixed": list(full.map.held_fixed) or [False] * len(asked.read.tokens),
        "target": target.to_json(),
        "signed": asked.question.method.signed if full.map.signed is None else full.map.signed,
        "full_scores": full.map.scores.tolist(),
        "quantized_scores": quantized.map.scores.tolist(),
        "full_value": full.map.value,
        "quantized_value": quantized.map.value,
        "full_gap": full.map.relative_gap,
        "quantized_gap": quantized.map.relative_gap,
        "full_answer": vocabulary.text(answers[0]),
        "quantized_answer": vocabulary.text(answers[1]),
        "same_answer": answers[0] == answers[1],
        "full_share": _share(full, answers[0]),
        "quantized_share": _share(quantized, answers[0]),
        "kl": float(kl(full.logits[None], quantized.logits[None])[0]),
        "notes": list(dict.fromkeys([*full.map.notes, *quantized.map.notes])),
    }


def _share(side: Side, token: int) -> float:
    """The probability that a model gives to a next token."""
    return float(side.logits.double().softmax(-1)[token])


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The mean over prompts of every number that there is, and the share of prompts with the same answer."""
    found: dict[str, float | None] = {"same_answer": sum(row["same_answer"] for row in rows) / len(rows)}
    for name in MEANS:
        known = [row[name] for row in rows if row[name] is not None and row[name] == row[name]]
        found[name] = sum(known) / len(known) if known else None
    return found


def tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """`prompts`, a row a prompt, and `tokens`, a row a token with both scores."""
    numbers = ["full_value", "quantized_value", *MEANS]
    prompts = pd.DataFrame(
        [{"prompt": row["number"], "text": row["prompt"][:80], "same_answer": row["same_answer"]} for row in rows]
    )
    for name in numbers:
        prompts[name] = pd.Series([row[name] for row in rows], dtype="float64")
    tokens = [
        {
            "prompt": row["number"],
            "position": position,
            "token": token,
            "full_score": full,
            "quantized_score": quantized,
            "drift": quantized - full,
        }
        for row in rows
        for position, (token, full, quantized) in enumerate(
            zip(row["tokens"], row["full_scores"], row["quantized_scores"], strict=True)
        )
    ]
    return {"prompts": prompts, "tokens": pd.DataFrame(tokens)}
