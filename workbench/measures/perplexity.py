"""Loss of a language model on windows of text: per token in nats, its mean, its uncertainty, its perplexity."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from workbench.errors import WorkbenchError
from workbench.measures.by_blocks import measure_passed, pass_blocks
from workbench.progress import Progress, Steps, within


class LossSummary(NamedTuple):
    """Mean loss in nats per token, its standard error over windows (NaN with fewer than two), and exp of the mean."""

    loss: float
    standard_error: float
    perplexity: float


class LossDifference(NamedTuple):
    """Mean increase of the loss in nats per token and its paired standard error over windows."""

    difference: float
    standard_error: float


# Gradients are switched off in plain functions, not in the generator below: a `with` block in a generator leaks its
# mode to the caller at every yield, and the decorator does not see a generator behind a type checker's wrapper.
@torch.no_grad()
def window_logits(model: nn.Module, ids: Int64[Tensor, "window tok"]) -> Float[Tensor, "window tok vocab"]:
    """Logits of a causal language model of the transformers kind, float32, on the model's device."""
    device = next(model.parameters()).device
    return model(input_ids=ids.to(device), use_cache=False).logits.float()


@torch.no_grad()
def losses_of_logits(
    logits: Float[Tensor, "window tok vocab"], ids: Int64[Tensor, "window tok"]
) -> Float[Tensor, "window tok-1"]:
    """Negative log-likelihood in nats of tokens 1, 2, ... given those before them: `tok` - 1 losses a window.

    One window at a time, because log-softmax makes another copy of its logits.
    """
    targets = ids[:, 1:].to(logits.device)
    rows = [functional.cross_entropy(a[:-1], b, reduction="none") for a, b in zip(logits, targets, strict=True)]
    return torch.stack(rows)


def token_losses(
    model: nn.Module, ids: Int64[Tensor, "window tok"], *, batch: int = 8
) -> Steps[Float[Tensor, "window tok-1"]]:
    """Losses of all windows, `batch` of them at a time; the first token of a window is predicted by nothing.

    Windows do not see each other, so the perplexity belongs to their length and is not comparable with that of another.

    Returns:
        float32 on the CPU, `tok` - 1 losses a window, in nats.

    Raises:
        WorkbenchError: there is no window, a window of fewer than two tokens, or a batch below 1.
    """
    windows, length = ids.shape
    if windows < 1 or length < 2 or batch < 1:
        raise WorkbenchError(
            f"a loss needs at least one window of two tokens and a batch of 1, not {windows} windows of {length} "
            f"tokens in batches of {batch}"
        )
    passed = yield from within(pass_blocks(model, ids, batch, {}, "model"), 0.0, 0.7)
    if passed is not None:
        return (yield from within(measure_passed(passed, "model"), 0.7, 1.0)).losses
    parts = []
    for start in range(0, windows, batch):
        yield Progress(start, windows, f"window {start + 1} of {windows}")
        part = ids[start : start + batch]
        parts.append(losses_of_logits(window_logits(model, part), part).cpu())
    return torch.cat(parts)


def _standard_error(window_means: Float[Tensor, " window"]) -> float:
    count = len(window_means)
    return float(window_means.std(correction=1)) / math.sqrt(count) if count > 1 else math.nan


def summarize(losses: Float[Tensor, "window predicted"]) -> LossSummary:
    """Mean loss, its standard error and the perplexity, in float64.

    Tokens of one window depend on each other, so windows are the units of the standard error. A perplexity too large
    for a float is infinite.
    """
    means = losses.double().mean(1)
    loss = means.mean()
    return LossSummary(float(loss), _standard_error(means), float(loss.exp()))


def paired_difference(
    losses: Float[Tensor, "window predicted"], reference: Float[Tensor, "window predicted"]
) -> LossDifference:
    """How much larger the losses are than the reference's on the same windows.

    Windows differ far more from each other than a quantized model does from its original, so the standard error of the
    differences per window is much smaller than that of either loss.
    """
    differences = losses.double().mean(1) - reference.double().mean(1)
    return LossDifference(float(differences.mean()), _standard_error(differences))
