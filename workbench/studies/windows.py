"""Which windows of the calibration text drive the statistics: how wrong the model is on each, how hard each pulls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.model.backward import GradientSums, make_leaves, next_token_logits
from workbench.model.block_ranges import check_differentiable, working_bytes
from workbench.model.chain import Chain
from workbench.model.chain_gradients import chain_gradients
from workbench.model.chain_memory import room_for_pass
from workbench.model.gradients import check_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.memory import require_memory
from workbench.progress import Progress, Steps, within
from workbench.results import Result
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows, describe

SHOWN_TOKENS = 16
SHOWN_CHARACTERS = 80


def windows(
    loaded: LoadedModel,
    *,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """EL2N and GraNd of every window of the calibration text (Paul et al. 2021, Deep Learning on a Data Diet).

    `el2n` is the mean over the window's tokens of |softmax - one-hot|, `grand` the norm over all quantizable matrices
    of the gradient of the window's mean loss. The squares of `grand` sum to windows times the trace of the Fisher
    matrix that `fisher` and `squeezellm` are made from, so `fisher_share` says which windows those scores come from.
    Left out: the paper's mean over several trainings from scratch; there is one model here, trained already.
    """
    del context
    text = calibration_windows(loaded, calibration, tokens, window)
    check_sweep(text, (), None, 1)
    matrices = find_matrices(loaded)
    check_differentiable(loaded.model, matrices)
    if not loaded.streamed:
        require_memory(working_bytes(loaded.model, matrices, text.window, ()), "the gradient of one window")
    rows: list[dict[str, Any]] = []
    for index, ids in enumerate(text.ids):
        yield Progress(index, len(text.ids), f"window {index + 1} of {len(text.ids)}")
        scoring = _score_by_blocks if loaded.streamed else _score
        scored = yield from within(scoring(loaded, ids[None]), index, index + 1, len(text.ids))
        rows.append({"window": index, **scored, "text": _beginning(loaded, ids)})
    total = sum(row["grand"] ** 2 for row in rows)
    for row in rows:
        row["fisher_share"] = row["grand"] ** 2 / total if total else 1 / len(rows)
    first = max(rows, key=lambda row: row["fisher_share"])
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "calibration": describe(text),
        "fisher_trace": total / len(rows),
        "verdict": f"Window {first['window']} pulls hardest: it holds {first['fisher_share']:.1%} of all squared "
        f"gradients; an even share would be {1 / len(rows):.1%}.",
        "windows": rows,
    }
    return Result(document, {"windows": pd.DataFrame(rows)})


def _score_by_blocks(loaded: LoadedModel, ids: Int64[Tensor, "one tok"]) -> Steps[dict[str, float]]:
    """The same for a model that is read block by block; gradients are squared and dropped block by block."""
    chain, squares = Chain(loaded.model, [ids]), list[float]()
    if not (yield from within(chain.open(), 0.0, 0.02)):
        return (yield from within(_score(loaded, ids), 0.02, 1.0))

    def finish(matrices: Sequence[Matrix], sums: GradientSums) -> None:
        squares.extend(float(one.double().square().sum()) for one in sums.grad.values())

    with room_for_pass([chain], find_matrices(loaded), {"grad"}, None):
        loss = yield from within(chain_gradients(chain, lambda _: {}, finish, "one window"), 0.02, 0.9)
    with torch.no_grad():
        logits, targets = next_token_logits(loaded.model, {}, ids.to(loaded.model.device))
    return {"loss": loss, "el2n": el2n(logits, targets), "grand": sum(squares) ** 0.5}


def _score(loaded: LoadedModel, ids: Int64[Tensor, "one tok"]) -> Steps[dict[str, float]]:
    """Loss, EL2N and GraNd of one window; gradients are squared and dropped matrix by matrix."""
    yield Progress(0, 1, "one window")
    squares: list[float] = []

    def take(leaf: Tensor) -> None:
        if leaf.grad is not None:
            squares.append(float(leaf.grad.double().square().sum()))
        leaf.grad = None

    values: dict[str, Tensor] = {}
    leaves = make_leaves(loaded.model, find_matrices(loaded), values)
    for leaf in leaves.values():
        leaf.register_post_accumulate_grad_hook(take)
    with torch.enable_grad():
        logits, targets = next_token_logits(loaded.model, values, ids.to(loaded.model.device))
        loss = cross_entropy(logits, targets)
        loss.backward(inputs=list(leaves.values()))
    return {"loss": float(loss.detach()), "el2n": el2n(logits.detach(), targets), "grand": sum(squares) ** 0.5}


def el2n(logits: Float[Tensor, "predicted vocab"], targets: Int64[Tensor, " predicted"]) -> float:
    """Mean of |softmax - one-hot|, between 0 and the square root of 2."""
    away = logits.softmax(-1)
    away[torch.arange(len(targets)), targets] -= 1
    return float(away.norm(dim=-1).double().mean())


def _beginning(loaded: LoadedModel, ids: Int64[Tensor, " tok"]) -> str:
    words: Any = loaded.tokenizer.decode(ids[:SHOWN_TOKENS])
    return " ".join(str(words).split())[:SHOWN_CHARACTERS]
