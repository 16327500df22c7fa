"""The scores of one metric to take along: every weight's score, a mask of the top ones, every channel's sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from safetensors.torch import save
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.memory import require_memory
from workbench.progress import Progress, Steps, within
from workbench.results import Result
from workbench.studies.asked import ask
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context
from workbench.studies.salience import salience
from workbench.studies.salience_masks import check_mask, top_masks

LIMIT = 256 * 2**20
"""Most bytes of scores that a result holds and a browser is given."""

SCORES, MASK = "scores.safetensors", "mask.safetensors"


def salience_export(
    loaded: LoadedModel,
    *,
    metric: str = "activation",
    options: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    text2: str | None = None,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    top: float = 0.01,
    mask_scope: str = "matrix",
    context: Context | None = None,
) -> Steps[Result]:
    """Compute `salience` and keep its scores as files `scores.safetensors` and `mask.safetensors`.

    Table `scores` holds the sums of every input channel (for metrics of channels, their scores). A metric of one number
    a matrix has no mask.

    Args:
        loaded: the model.
        metric: as for `salience`, like all that follow up to `plan`.
        options: of the metric.
        calibration: text.
        tokens: cap of a text's tokens.
        window: tokens of one sequence.
        text2: second text.
        scheme: for metrics that compare.
        plan: likewise.
        top: share of the weights that the mask marks.
        mask_scope: `matrix`, `row` or `global`.
        context: what the process shares.

    Raises:
        WorkbenchError: what `salience` refuses, a mask that cannot be made, or scores that are too large to hand over.
    """
    grain = ask(metric, options).method.traits.get("granularity", "element")
    if grain != "matrix":
        check_mask(metric, top, mask_scope)
    _check_size(loaded, grain)
    scores: dict[str, Tensor] = {}
    chosen = {"calibration": calibration, "tokens": tokens, "window": window, "text2": text2}
    steps = salience(
        loaded, metric=metric, options=options, scheme=scheme, plan=plan, keep=scores, context=context, **chosen
    )
    found = yield from within(steps, 0.0, 0.9)
    yield Progress(0.9, 1.0, "masks and files")
    facts = {"metric": metric, "model": loaded.identity.digest}
    files: dict[str, bytes] = {SCORES: save(scores, facts)}
    mask = None
    if grain != "matrix":
        masks = top_masks(scores, top, mask_scope)
        files[MASK] = save(masks, {**facts, "top": repr(top), "scope": mask_scope})
        kept = sum(int(one.sum()) for one in masks.values())
        mask = {"top": top, "scope": mask_scope, "kept": kept, "of": sum(one.numel() for one in masks.values())}
    held = ("model", "metric", "options", "signed", "calibration", "text2", "quantization", "notes")
    document = {
        **{name: found.document[name] for name in held},
        "mask": mask,
        "files": {name: len(content) for name, content in files.items()},
    }
    return Result(document, {"scores": _channels(scores)}, dict(files))


def _check_size(loaded: LoadedModel, grain: str) -> None:
    size = 4 * sum(one.parameters if grain == "element" else one.columns for one in find_matrices(loaded))
    if size > LIMIT:
        raise WorkbenchError(
            f"the scores of this model take {size / 2**20:.0f} MiB, and {LIMIT / 2**20:.0f} MiB is the most that is "
            "handed over here; `workbench salience MODEL --metric NAME --tensors FILE --mask FILE` writes them"
        )
    require_memory(4 * size, "the scores of every weight and their files")


def _channels(scores: Mapping[str, Tensor]) -> pd.DataFrame:
    """The sums of absolute scores over outputs, a row an input channel; the number itself where there is only one."""
    parts = []
    for name, one in scores.items():
        sums = one.double().abs().sum(0) if one.ndim == 2 else one.double().reshape(-1)
        parts.append(pd.DataFrame({"matrix": name, "channel": range(len(sums)), "score": sums.tolist()}))
    return pd.concat(parts, ignore_index=True)
