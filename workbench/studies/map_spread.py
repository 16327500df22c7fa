"""What the maps of several draws of the same model have in common: mean, spread, order, and what the outputs did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from workbench.attribution.result import Attribution
from workbench.attribution.tokens import Prompt, Vocabulary
from workbench.measures.divergence import kl
from workbench.studies.drift_rows import free_tokens
from workbench.studies.map_agreement import pair
from workbench.studies.map_checks import Question
from workbench.studies.prompt_verdict import mean_known

UNSTEADY = 2.0
"""Scores with |mean| below this many standard deviations are not to be told from zero."""

NUMBERS = ("snr_mean", "snr_median", "rank_stability", "fragility", "blindness")


@dataclass(frozen=True, slots=True)
class Look:
    """One model's logits of the next token, and its map by every method."""

    logits: Float[Tensor, " vocab"]
    maps: Mapping[str, Attribution]


@dataclass(frozen=True, slots=True)
class Looks:
    """The full model and the draws."""

    full: Look
    draws: list[Look]

    def scores(self, method: str) -> Float64[Tensor, "draw tok"]:
        """The maps of a method, a row a draw."""
        return torch.stack([look.maps[method].scores for look in self.draws])

    def keeps_answer(self) -> list[bool]:
        """Which draws find the full model's likeliest next token likeliest."""
        best = int(self.full.logits.argmax())
        return [int(look.logits.argmax()) == best for look in self.draws]

    def outputs(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """What the outputs did: divergence of each draw, nats, and the answers."""
        moved = [float(kl(self.full.logits[None], look.logits[None])[0]) for look in self.draws]
        same = self.keeps_answer()
        return {
            "kl": moved,
            "kl_mean": sum(moved) / len(moved),
            "same_answer": sum(same) / len(same),
            "full_answer": vocabulary.text(int(self.full.logits.argmax())),
            "answers": [vocabulary.text(int(look.logits.argmax())) for look in self.draws],
        }


def method_row(question: Question, looks: Looks, read: Prompt) -> dict[str, Any]:
    """One method's map with its error bars; `compared` are the tokens of content that the method can move.

    `snr` is |mean| / standard deviation, None where nothing moves. Fragility is 1 minus the mean rank correlation with
    the full model's map, over the draws that keep its answer; None when none does.
    """
    name, full = question.method.name, looks.full.maps[question.method.name]
    free, drawn = free_tokens(full, read), looks.scores(name)
    mean, sd = drawn.mean(0), drawn.std(0)
    snr = torch.where(sd > 0, mean.abs() / sd, torch.nan)
    known = snr[free & (sd > 0)]
    return {
        "name": name,
        "signed": question.method.signed if full.signed is None else full.signed,
        "options": dict(question.settings),
        "scores": full.scores.tolist(),
        "mean": mean.tolist(),
        "sd": sd.tolist(),
        "snr": [value if value == value else None for value in snr.tolist()],
        "compared": free.nonzero().flatten().tolist(),
        "snr_mean": float(known.mean()) if len(known) else None,
        "snr_median": float(known.median()) if len(known) else None,
        "unsteady": int((known < UNSTEADY).sum()),
        **_order(question, looks, free),
        "notes": list(full.notes),
    }


def _order(question: Question, looks: Looks, free: Bool[Tensor, " tok"]) -> dict[str, float | None]:
    """How far draws agree on the order of the tokens: with each other, and with the full model."""
    name = question.method.name
    full, drawn = looks.full.maps[name].scores[free], looks.scores(name)[:, free]

    def alike(one: Tensor, other: Tensor) -> float | None:
        return pair(one, other, signed=question.method.signed, top_k=1)["spearman"] if len(full) else None

    among = mean_known([alike(one, other) for one, other in combinations(drawn, 2)])
    kept = mean_known([alike(full, one) for one, same in zip(drawn, looks.keeps_answer(), strict=True) if same])
    return {"rank_stability": among, "fragility": None if kept is None else 1 - kept}


def tables(rows: Sequence[Mapping[str, Any]], read: Prompt) -> dict[str, pd.DataFrame]:
    """`methods`, a row a method, and `tokens`, a row a method and token."""
    methods = pd.DataFrame([{"method": row["name"], "unsteady": row["unsteady"]} for row in rows])
    for name in NUMBERS:
        methods[name] = pd.Series([row[name] for row in rows], dtype="float64")
    tokens = [
        {
            "method": row["name"],
            "position": position,
            "token": token,
            "score": row["scores"][position],
            "mean_score": row["mean"][position],
            "score_sd": row["sd"][position],
            "snr": row["snr"][position],
        }
        for row in rows
        for position, token in enumerate(read.tokens)
    ]
    return {"methods": methods, "tokens": pd.DataFrame(tokens).astype({"snr": "float64"})}
