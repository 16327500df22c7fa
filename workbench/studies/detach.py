"""What a metric's top weights are worth: they stay as they are, all others are quantized, the loss is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.measures.perplexity import paired_difference
from workbench.model.load import LoadedModel
from workbench.model.matrices import read_weight
from workbench.ordering import topk_mask
from workbench.progress import Steps, within
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.results import Result
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context
from workbench.studies.court_truth import Dense
from workbench.studies.reference import Reference, compare, reference
from workbench.studies.scores import ask_for_weights, weight_scores
from workbench.studies.scoring import DEFAULT_SCHEME, gather
from workbench.studies.texts import calibration_windows, describe, evaluation_windows, keep_apart

RANDOM = "random"
SHARES = (0.001, 0.005, 0.02, 0.05)
DETACHED_BITS = 48
"""Bits of a weight that is kept: 16 for its value, 32 for its place."""

TOKENS = 4096


def detach(
    loaded: LoadedModel,
    *,
    scheme: Mapping[str, Any] | None = None,
    metrics: Sequence[str] | None = None,
    shares: Sequence[float] = SHARES,
    calibration: str | None = None,
    text: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    seed: int = 0,
    context: Context | None = None,
) -> Steps[Result]:
    """Keep the top weights of each metric, over the whole model, and measure what is left of the rise of the loss.

    Signed metrics are ranked by their absolute value (arXiv 2503.01901 and our own measurements: ranked by sign they
    fit the calibration text). Random weights are the floor.

    Args:
        loaded: the model.
        scheme: how all other weights are quantized; rtn, 3 bits, groups of 64 when not given.
        metrics: names; all that score single weights and need no second text when not given.
        shares: parts of one of all weights in the quantizable matrices.
        calibration: text that the metrics see.
        text: text that they do not see; the loss is measured on both.
        tokens: cap of either.
        window: tokens of one sequence.
        seed: of the random weights.
        context: what the process shares.

    Raises:
        WorkbenchError: a metric without a score for single weights, or a share outside of (0, 1).
    """
    context = context or Context()
    chosen = complete_scheme(scheme or DEFAULT_SCHEME)
    asked = ask_for_weights(metrics)
    if not shares or not all(0 < share < 1 for share in shares):
        raise WorkbenchError(f"shares are {list(shares)!r}; give parts of one above 0 and below 1, such as 0.005")
    keep_apart(loaded, calibration, text)
    seen = calibration_windows(loaded, calibration, tokens or TOKENS, window)
    unseen = evaluation_windows(loaded, text, tokens or TOKENS, window)
    given = {"calibration": calibration, "tokens": tokens or TOKENS, "window": window, "scheme": chosen}
    material = yield from within(gather(loaded, asked, **given, quantize=True, context=context), 0.0, 0.06)
    weights = material.weights or {}
    scores = yield from within(weight_scores(loaded, asked, material), 0.06, 0.2)
    matrices = find_matrices(loaded)
    generator = torch.Generator().manual_seed(seed)
    scores[RANDOM] = {m.name: torch.rand(m.rows, m.columns, generator=generator) for m in matrices}
    texts = {}
    for name, windows, start in (("rise", seen, 0.2), ("rise_heldout", unseen, 0.22)):
        texts[name] = yield from within(reference(loaded, windows), start, start + 0.02)
    everything = yield from within(_rises(texts, weights, "all quantized"), 0.24, 0.26)
    rows = yield from within(_curves(loaded, texts, weights, scores, sorted(shares)), 0.26, 1.0)
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "scheme": chosen.to_json(),
        "calibration": describe(seen),
        "text": describe(unseen),
        "seed": seed,
        "all": everything,
        "points": rows,
    }
    return Result(document, {"detach": pd.DataFrame(rows)})


def _curves(
    loaded: LoadedModel,
    texts: Mapping[str, Reference],
    weights: Dense,
    scores: Mapping[str, Mapping[str, Tensor]],
    shares: Sequence[float],
) -> Steps[list[dict[str, Any]]]:
    rows, steps = [], len(scores) * len(shares)
    full = {m.name: read_weight(loaded.model, m) for m in find_matrices(loaded)}
    for metric, of_matrix in scores.items():
        together = torch.cat([of_matrix[name].flatten() for name in weights])
        for share in shares:
            count = max(1, math.ceil(share * together.numel()))
            kept = topk_mask(together, count).split([weights[name].numel() for name in weights])
            mixed = {
                name: torch.where(mask.view_as(weights[name]), full[name], weights[name])
                for (name, mask) in zip(weights, kept, strict=True)
            }
            place = len(rows)
            rises = yield from within(_rises(texts, mixed, f"{metric}, {share:.2%} kept"), place, place + 1, steps)
            rows.append({"metric": metric, "share": share, "added_bits": DETACHED_BITS * share, **rises})
    return rows


def _rises(texts: Mapping[str, Reference], weights: Dense, note: str) -> Steps[dict[str, float]]:
    """The rise of the loss on each text, nats a token, and its paired standard error."""
    found: dict[str, float] = {}
    for place, (name, full) in enumerate(texts.items()):
        compared = yield from within(compare(full, weights, note), place, place + 1, len(texts))
        difference = paired_difference(compared.losses, full.losses)
        found |= {name: difference.difference, f"{name}_error": difference.standard_error}
    return found
