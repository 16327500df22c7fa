"""Which input tokens lead the quantized model astray: what is left of the divergence when a token is replaced."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import Baseline, BaselineName, make_baseline
from workbench.attribution.sampling import rows_at_once
from workbench.measures.divergence import kl
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.progress import Progress, Steps, within
from workbench.results import Result
from workbench.studies.attribute import quantized_weights
from workbench.studies.context import Context
from workbench.studies.prompt_document import of_prompt
from workbench.studies.removal import read_choice


def blame(
    loaded: LoadedModel,
    *,
    prompt: str,
    baseline: str = "auto",
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """KL(full || quantized) of the next token, minus the same with one token replaced, for every token of content.

    A positive score: without this token the two models agree more. Both models read the same replaced prompt. By
    occlusion, so that no gradient is needed and every number is a difference of two measured ones. Left out: divergence
    at other positions than the last.

    Args:
        loaded: the model.
        prompt: the text.
        baseline: what a token is replaced by.
        scheme: quantizes all matrices; without it and a plan the model is compared with itself.
        plan: the same by a plan.
        calibration: text for quantizers that read one.
        context: what the process shares.

    Raises:
        WorkbenchError: a prompt that cannot be read, or a baseline that this model does not have.
    """
    filling = read_choice("baseline", baseline, BaselineName)
    adapter = Adapter(loaded.model, loaded.tokenizer, loaded.context)
    read = adapter.encode(prompt, cut=True)
    embeds = adapter.embed(read.ids)
    start = make_baseline(adapter, read.ids, embeds, filling)
    weights = yield from within(quantized_weights(loaded, scheme, plan, calibration, context or Context()), 0.0, 0.4)
    replaced = replaced_one_by_one(start)
    full = yield from within(_logits(adapter, embeds, start, replaced, "the full model"), 0.4, 0.7)
    with overlay(loaded.model, weights) if weights is not None else nullcontext():
        quantized = yield from within(_logits(adapter, embeds, start, replaced, "the quantized model"), 0.7, 1.0)
    divergence = kl(full, quantized)
    scores = torch.zeros(len(read.tokens), dtype=torch.float64)
    scores[~start.held_fixed.cpu()] = divergence[0] - divergence[1:]
    answers = [adapter.vocabulary.text(int(logits[0].argmax())) for logits in (full, quantized)]
    document = {
        **of_prompt(loaded, prompt, read),
        "held_fixed": start.held_fixed.tolist(),
        "baseline": start.name,
        "kl": float(divergence[0]),
        "full_answer": answers[0],
        "quantized_answer": answers[1],
        "scores": scores.tolist(),
        "worst": _worst(read.tokens, scores),
        "notes": list(read.notes),
    }
    table = pd.DataFrame({"position": range(len(read.tokens)), "token": list(read.tokens), "blame": scores.tolist()})
    return Result(document, {"tokens": table})


def replaced_one_by_one(start: Baseline) -> Bool[Tensor, "row tok"]:
    """Which tokens each row replaces: none in the first, then one token of content after the other."""
    free = (~start.held_fixed).nonzero().flatten().cpu()
    rows = torch.zeros(len(free) + 1, len(start.held_fixed), dtype=torch.bool)
    rows[torch.arange(1, len(free) + 1), free] = True
    return rows


def _logits(
    adapter: Adapter, embeds: Float[Tensor, "1 tok hid"], start: Baseline, replaced: Bool[Tensor, "row tok"], whose: str
) -> Steps[Float[Tensor, "row vocab"]]:
    """The next token's logits of every row, in the model as it is now."""
    found = []
    rows = rows_at_once(adapter.model, embeds.shape[1])
    for done, part in enumerate(replaced.split(rows)):
        yield Progress(done * rows, len(replaced), f"{len(replaced)} prompts in {whose}")
        inputs = torch.where(part[..., None].to(embeds.device), start.embeds, embeds)
        with adapter.steady(), torch.no_grad():
            found.append(adapter.next_logits(inputs).cpu())
    return torch.cat(found)


def _worst(tokens: tuple[str, ...], scores: Float64[Tensor, " tok"], count: int = 10) -> list[dict[str, Any]]:
    """The tokens to blame most, worst first; those with a positive score alone."""
    order = scores.argsort(descending=True, stable=True)[:count].tolist()
    return [
        {"position": place, "token": tokens[place], "blame": float(scores[place])}
        for place in order
        if scores[place] > 0
    ]
