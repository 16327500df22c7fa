"""Weights and inputs in one picture: how much of a target each matrix carries at each token, by gradient x weight."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pandas as pd

from workbench.attribution.flow import weight_flow
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.progress import Progress, Steps, within
from workbench.results import Result
from workbench.studies.attribute import explained, quantized_weights
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context


def token_weights(
    loaded: LoadedModel,
    *,
    prompt: str,
    target: str | None = None,
    contrast: str | None = None,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Signed contribution g_t . (W x_t) and its magnitude |g_t| . (|W| |x_t|) of every matrix at every token."""
    context = context or Context()
    adapter, read, asked = explained(loaded, prompt, target, contrast)
    weights = yield from within(quantized_weights(loaded, scheme, plan, calibration, context), 0.0, 0.4)
    matrices = find_matrices(loaded)
    yield Progress(0.4, 1.0, f"gradient x weight of {len(matrices)} matrices at {len(read.tokens)} tokens")
    modules = {matrix.name: loaded.model.get_submodule(matrix.module) for matrix in matrices}
    transposed = {matrix.name for matrix in matrices if matrix.transposed}
    with overlay(loaded.model, weights) if weights is not None else nullcontext():
        signed, magnitude = weight_flow(adapter, read.ids, asked, modules, transposed)
    rows = [
        {
            "matrix": matrix.name,
            "block": matrix.block,
            "role": matrix.role,
            "position": position,
            "token": token,
            "score": signed[place, position].item(),
            "magnitude": magnitude[place, position].item(),
        }
        for place, matrix in enumerate(matrices)
        for position, token in enumerate(read.tokens)
    ]
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "prompt": prompt,
        "tokens": list(read.tokens),
        "ids": read.ids[0].tolist(),
        "matrices": [matrix.name for matrix in matrices],
        "target": asked.to_json(),
        "magnitude": magnitude.tolist(),
        "score": signed.tolist(),
    }
    return Result(document, {"token_weights": pd.DataFrame(rows)})
