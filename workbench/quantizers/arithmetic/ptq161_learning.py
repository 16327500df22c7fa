"""PTQ1.61's learning of scales, block by block, and a preprocessing of the block's weights of our own.

Source: zjq0455/PTQ1.61. With block f, its quantized form f_q, the full model's stream x and the quantized model's
stream x_q, the loss is MSE(f(x), f_q(x_q)) + MSE(f(x_q), f_q(x_q)), minus the logarithms of the mean cosines of both
pairs. Signs stay as they are, so that only the scales have a gradient.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from workbench.model.block_task import BlockTask
from workbench.progress import Progress, Steps, within
from workbench.quantizers.weights.salient_and_binary import Scales, Skeleton

Weights = Mapping[str, Tensor]


class BlockLoss:
    """How far a quantized block is from the full one, over some batches of both streams.

    Args:
        task: the block.
        batches: how many of its batches count.
        cosine: whether the cosines do.
    """

    def __init__(self, task: BlockTask, batches: int, cosine: bool) -> None:
        self.task, self.batches, self.cosine = task, batches, cosine
        self._targets: list[tuple[Tensor, ...]] = []

    def open(self) -> Steps[None]:
        """Run the full block on the streams; where they are still one, one target counts twice."""
        streams = ("full", "quantized") if self.task.walk.apart else ("full",)
        for batch in range(self.batches):
            yield Progress(batch, self.batches, f"running {self.task.block.path}")
            with torch.no_grad():
                hidden = [self.task.inputs(stream)[batch] for stream in streams]
                self._targets.append(tuple(self.task.run(batch, one, self.task.weights) for one in hidden))

    def of(self, batch: int, weights: Weights) -> Float[Tensor, ""]:
        """The loss of a batch; a gradient flows to the weights."""
        output = self.task.run(batch, self.task.inputs("quantized")[batch], weights)
        return torch.stack([2 * self._apart(output, one) for one in self._targets[batch]]).mean()

    def mean(self, weights: Weights, note: str) -> Steps[float]:
        """The mean loss of all batches."""
        total = 0.0
        for batch in range(self.batches):
            yield Progress(batch, self.batches, note)
            with torch.no_grad():
                total += float(self.of(batch, weights))
        return total / self.batches

    def _apart(self, output: Tensor, target: Tensor) -> Float[Tensor, ""]:
        squared = mse_loss(output, target)
        if not self.cosine:
            return squared
        return squared - cosine_similarity(output, target, dim=-1).mean().abs().clamp_min(1e-12).log()


@dataclass(frozen=True)
class Rates:
    """Epochs and learning rates of AdamW, which decays nothing."""

    epochs: int
    magnitude: float
    factors: float


def learn_scales(loss: BlockLoss, skeletons: Mapping[str, Skeleton], rates: Rates) -> Steps[dict[str, Scales]]:
    """The scales, rounded to fp16, that had the smallest mean loss at the end of an epoch or before the first."""

    def dense(scales: Mapping[str, Scales]) -> dict[str, Tensor]:
        return {name: skeletons[name].dense(one) for name, one in scales.items()}

    def copy(tensor: Tensor) -> Tensor:
        return tensor.clone().requires_grad_()

    best = {name: one.start.rounded() for name, one in skeletons.items()}
    total = rates.epochs + 1
    least = yield from within(loss.mean(dense(best), "loss before learning"), 0.0, 1.0, total)
    held = {name: one.mapped(copy) for name, one in best.items()}
    groups = [
        {"params": [one.magnitude for one in held.values()], "lr": rates.magnitude},
        {"params": [part for one in held.values() for part in (one.rows, one.columns)], "lr": rates.factors},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    for epoch in range(1, total):
        note = f"learning scales, epoch {epoch} of {rates.epochs}, loss {least:.4g}"
        for batch in range(loss.batches):
            yield Progress(epoch + 0.7 * batch / loss.batches, total, note)
            _step(optimizer, lambda batch=batch: loss.of(batch, dense(held)))
        rounded = {name: one.rounded() for name, one in held.items()}
        value = yield from within(loss.mean(dense(rounded), note), epoch + 0.7, epoch + 1, total)
        if value < least:
            best, least = rounded, value
        if math.isnan(value):
            break
    return best


@dataclass(frozen=True)
class LowRank:
    """How low-rank updates are trained.

    Attributes:
        steps: steps of AdamW, one batch each.
        rank: rank of an update, or that of the matrix where it is smaller.
        rate: learning rate.
        seed: of the random side of the updates.
    """

    steps: int
    rank: int
    rate: float
    seed: int


def preprocess(
    loss: BlockLoss, lay_out: Callable[[str, Tensor], Skeleton], settings: LowRank
) -> Steps[dict[str, Tensor]]:
    """Low-rank updates of the weights with which the block, once quantized, comes closer to the full block.

    Ours: the quantizer is passed straight through in the gradient, and the target is the full block. The paper trains
    LoRA on the language loss of the whole quantized model for 20,000 steps. The updates are dropped again where they
    did not lower the loss.

    Args:
        loss: of the block.
        lay_out: matrix name and weight -> its quantized form before learning.
        settings: of the training.

    Returns:
        Matrix -> weight to be quantized, `[out, in]`.
    """
    full = {matrix.name: loss.task.weights[matrix.name] for matrix in loss.task.matrices}
    sides = _low_rank(full, settings.rank, settings.seed)

    def updated() -> dict[str, Tensor]:
        return {name: weight + sides[name][0] @ sides[name][1] for name, weight in full.items()}

    def rounded(weights: Weights) -> dict[str, Tensor]:
        shells = {name: lay_out(name, weight.detach()) for name, weight in weights.items()}
        return {name: shell.dense(shell.start) for name, shell in shells.items()}

    def straight_through(batch: int) -> Float[Tensor, ""]:
        weights = updated()
        held = rounded(weights)
        return loss.of(batch, {name: one + (held[name] - one).detach() for name, one in weights.items()})

    optimizer = torch.optim.AdamW(
        [side for pair in sides.values() for side in pair], lr=settings.rate, weight_decay=0.0
    )
    before = yield from within(loss.mean(rounded(full), "loss before preprocessing"), 0.0, 0.05)
    started = time.perf_counter()
    with torch.enable_grad():
        straight_through(0).backward()
    each = time.perf_counter() - started
    optimizer.zero_grad()
    steps = settings.steps
    for step in range(steps):
        left = f"about {each * (steps - step):.0f} s left in this block"
        yield Progress(
            0.05 + 0.9 * step / steps, 1.0, f"block-wise preprocessing (ours): step {step} of {steps}, {left}"
        )
        _step(optimizer, lambda step=step: straight_through(step % loss.batches))
    with torch.no_grad():
        changed = updated()
    after = yield from within(loss.mean(rounded(changed), "loss after preprocessing"), 0.95, 1.0)
    return changed if after < before else full


def _low_rank(weights: Weights, rank: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Two sides of an update for each weight, the first of them zero."""
    generator, sides = torch.Generator().manual_seed(seed), dict[str, tuple[Tensor, Tensor]]()
    for name, weight in weights.items():
        rows, columns = weight.shape
        inner = min(rank, rows, columns)
        right = torch.randn((inner, columns), generator=generator) / columns**0.5
        sides[name] = (weight.new_zeros(rows, inner).requires_grad_(), right.to(weight).requires_grad_())
    return sides


def _step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    with torch.enable_grad():  # the caller of a study may have switched gradients off
        optimizer.zero_grad()
        loss().backward()
    optimizer.step()
