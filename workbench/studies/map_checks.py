"""What a map must depend on, the model's weights and the target, and what it should not, the choice of baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.aggregate import settle
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.registry import Method, attribution
from workbench.studies.map_agreement import agreement_rows, pair

BASELINES = ("eos", "unk", "mean", "zero")
COMPARED_BASELINES = 3
PATH_METHOD = "integrated_gradients"


@dataclass(frozen=True, slots=True)
class Question:
    """One method with its options, and the prompt and target that it explains."""

    adapter: Adapter
    ids: Int64[Tensor, "1 tok"]
    target: Target
    method: Method
    settings: Mapping[str, Any]

    def answer(self, target: Target | None = None) -> Attribution:
        """The map, of another target if one is given.

        Raises:
            WorkbenchError: the method refuses, or its scores are no numbers.
        """
        raw: Attribution = self.method(self.adapter, self.ids, target or self.target, **self.settings)
        found = settle(raw, self.adapter.layout.fixed)
        bad = int((~found.scores.isfinite()).sum())
        if bad:
            raise WorkbenchError(f"{self.method.name} gave {bad} scores that are NaN or infinite")
        return found


def shuffled_weights(loaded: LoadedModel, seed: int = 0) -> dict[str, Tensor]:
    """Every quantizable matrix with its weights in random order: the same numbers, and nothing learned left in them."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for matrix in quantizable_matrices(loaded.model):
        weight = read_weight(loaded.model, matrix)
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        found[matrix.name] = weight.flatten()[order].reshape(weight.shape)
    return found


def randomised_spearman(
    loaded: LoadedModel, question: Question, scores: Float64[Tensor, " tok"], places: Int64[Tensor, " unit"], seed: int
) -> float | None:
    """Spearman's correlation with the map of the same question to the model with shuffled matrices.

    Adebayo et al. 2018, arXiv:1810.03292: a map that stays the same does not show what the model has learned.
    Embeddings and norms stay; all matrices are shuffled at once, not one after the other from the top. None where the
    method cannot explain that model.
    """
    with overlay(loaded.model, shuffled_weights(loaded, seed)):
        return _match(question, question.target, scores, places)


def class_spearman(question: Question, scores: Float64[Tensor, " tok"], places: Int64[Tensor, " unit"]) -> float | None:
    """Spearman's correlation with the map of the least likely next token: the same map for both explains neither."""
    worst = int(question.adapter.predict(question.ids).argmin())
    kind = "logprob" if question.target.kind == "logprob" else "logit"
    return _match(question, Target(kind, (worst,), (question.adapter.vocabulary.text(worst),)), scores, places)


def baseline_sensitivity(
    adapter: Adapter, ids: Int64[Tensor, "1 tok"], target: Target, places: Int64[Tensor, " unit"], top_k: int
) -> list[dict[str, Any]]:
    """How alike integrated gradients from different baselines are: rows as of `agreement_rows`, by `baseline`."""
    method = attribution.get(PATH_METHOD)
    maps: dict[str, Tensor] = {}
    for name in BASELINES:
        found = _attempt(Question(adapter, ids, target, method, method.parse_options({"baseline": name})))
        if found is not None and len(maps) < COMPARED_BASELINES:
            maps[name] = found.scores[places]
    rows = agreement_rows(maps, dict.fromkeys(maps, True), top_k)
    return [{"baseline": row.pop("method"), **row} for row in rows]


def _match(
    question: Question, target: Target, scores: Float64[Tensor, " tok"], places: Int64[Tensor, " unit"]
) -> float | None:
    """The rank correlation of a map and the one of another target."""
    found = _attempt(question, target)
    if found is None:
        return None
    return pair(scores[places], found.scores[places], signed=question.method.signed, top_k=1)["spearman"]


def _attempt(question: Question, target: Target | None = None) -> Attribution | None:
    """The map, or None where the method refuses."""
    try:
        return question.answer(target)
    except WorkbenchError:
        return None
