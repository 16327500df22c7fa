"""The full model on the evaluation windows: what every quantized one is held against, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.measures.agreement import top1_agreement
from workbench.measures.by_blocks import measure_passed, pass_blocks
from workbench.measures.divergence import kl
from workbench.measures.perplexity import losses_of_logits, window_logits
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.model.passage import Passage
from workbench.model.texts import Windows
from workbench.progress import Progress, Steps, within

BATCH_LOGITS = 16_000_000
KEPT_LOGITS = 128_000_000


@dataclass
class Comparison:
    """A model with other weights against the full one, in nats.

    Attributes:
        losses: loss of every token, `[window, tok]`.
        kl: KL(full || this) of every token, `[window, tok]`.
        agreement: share of tokens with the same most likely next token.
    """

    losses: Float[Tensor, "window tok"]
    kl: Float[Tensor, "window tok"]
    agreement: float


@dataclass
class Reference:
    """Losses of the full model and, where they fit (512 MB), its logits; beyond that the logits are computed again.

    Of a model that is read block by block the hidden states behind the last block are kept instead, on disk.

    Attributes:
        losses: loss of every token, `[window, tok]`, nats.
        passed: those hidden states; None for a model in memory.
    """

    loaded: LoadedModel
    windows: Windows
    losses: Float[Tensor, "window tok"]
    _kept: dict[int, Tensor] = field(default_factory=dict, repr=False)
    passed: Passage | None = field(default=None, repr=False)

    def batches(self) -> list[Int[Tensor, "batch tok"]]:
        """The windows in batches whose logits stay below 64 MB."""
        return batches_of(self.loaded, self.windows) if self.passed is None else self.passed.batches

    def logits(self, index: int) -> Float[Tensor, "batch tok vocab"]:
        """Logits of the full model on a batch. Call it outside an overlay."""
        if index in self._kept:
            return self._kept[index]
        if self.passed is not None:
            return self.passed.logits(index, self.passed.states[index])
        return window_logits(self.loaded.model, self.batches()[index])


def batches_of(loaded: LoadedModel, windows: Windows) -> list[Int[Tensor, "batch tok"]]:
    """Windows in batches of bounded logits, at most 16 windows each."""
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    size = max(1, min(16, BATCH_LOGITS // (windows.window * vocabulary)))
    return list(windows.ids.split(size))


def reference(loaded: LoadedModel, windows: Windows) -> Steps[Reference]:
    """Run the full model once over the windows."""
    batches = batches_of(loaded, windows)
    passed = yield from within(pass_blocks(loaded.model, windows.ids, len(batches[0]), {}, "full model"), 0.0, 0.7)
    if passed is not None:
        losses = (yield from within(measure_passed(passed, "full model"), 0.7, 1.0)).losses
        return Reference(loaded, windows, losses, passed=passed)
    losses, kept, held = [], {}, 0
    for index, ids in enumerate(batches):
        yield Progress(index, len(batches), "full model")
        logits = window_logits(loaded.model, ids)
        losses.append(losses_of_logits(logits, ids))
        held += logits.numel()
        if held <= KEPT_LOGITS:
            kept[index] = logits
    return Reference(loaded, windows, torch.cat(losses), kept)


def compare(full: Reference, weights: Mapping[str, Tensor], note: str = "quantized model") -> Steps[Comparison]:
    """Run the model with other weights in place over the same windows; the original bytes are back at every yield."""
    if full.passed is not None:
        found = yield from _compare_passed(full, full.passed, weights, note)
        if found is not None:
            return found
    losses, divergences, agreements, batches = [], [], [], full.batches()
    for index, ids in enumerate(batches):
        yield Progress(index, len(batches), note)
        truth = full.logits(index)
        with overlay(full.loaded.model, weights):
            logits = window_logits(full.loaded.model, ids)
        losses.append(losses_of_logits(logits, ids))
        divergences.append(kl(truth[:, :-1], logits[:, :-1]))
        agreements.append(top1_agreement(truth[:, :-1], logits[:, :-1]) * ids.shape[0])
    return Comparison(torch.cat(losses), torch.cat(divergences), sum(agreements) / full.windows.ids.shape[0])


def _compare_passed(
    full: Reference, passed: Passage, weights: Mapping[str, Tensor], note: str
) -> Steps[Comparison | None]:
    """Block by block; None where that cannot be done with these weights."""
    at_once = len(passed.batches[0])
    other = yield from within(pass_blocks(full.loaded.model, full.windows.ids, at_once, weights, note), 0.0, 0.7)
    if other is None:
        return None
    found = yield from within(measure_passed(other, note, passed), 0.7, 1.0)
    if found.kl is None or found.same is None:
        return None
    return Comparison(found.losses, found.kl, float(found.same.double().mean()))
