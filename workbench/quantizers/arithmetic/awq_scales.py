"""AWQ's search for column scales: powers of the inputs' mean size, judged by the output of the module that reads them.

Source: Lin et al. 2024, arXiv 2306.00978, and mit-han-lab/llm-awq. A single linear layer needs no forward: over all
tokens its squared output error is tr(D G D^T) with D the change of its weight and G the Gram matrix of its inputs.
Attention and an MLP are not linear, so there the module runs once for every candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

import lowbit
from workbench.model.block_task import BlockTask
from workbench.model.blocks import Call
from workbench.progress import Progress, Steps, within

RATIOS = tuple(step / 20 for step in range(20))
"""Exponents that the code tries: 0 (round to nearest) up to 0.95."""
SMALLEST = 1e-4
FINEST, LARGEST = 2.0**-14, 65504.0
"""Between these fp16 keeps 11 bits."""
PANEL = 256
"""Columns of G that are multiplied at once; those to the left of a panel are known by symmetry."""


class Levels(NamedTuple):
    """The grid of every matrix: arguments of `lowbit.quantize`."""

    bits: int
    group_size: int
    symmetric: bool


@dataclass(frozen=True, eq=False)
class ScaleSearch:
    """What a search found.

    Attributes:
        ratio: the best exponent, the first of equals.
        scale: its column scales, fp16 numbers in float32.
        losses: mean squared error of the module's output at each exponent; infinite where no fp16 scale reaches.
    """

    ratio: float
    scale: Float[Tensor, " in"]
    losses: tuple[float, ...]


def column_scales(mean_abs: Float[Tensor, " in"], ratio: float) -> Float[Tensor, " in"]:
    """mean|x|^ratio, at least 1e-4, divided by the root of the product of its extremes, rounded to fp16."""
    scale = mean_abs.float().pow(ratio).clamp_(min=SMALLEST)
    scale /= (scale.max() * scale.min()).sqrt()
    return scale.clamp_(FINEST, LARGEST).half().float()


def round_scaled(
    weight: Float[Tensor, "out in"], scale: Float[Tensor, " in"], levels: Levels
) -> Float[Tensor, "out in"]:
    """Columns multiplied by their scales, rounded, and divided again.

    Raises:
        lowbit.LowbitError: NaN or infinity, or a group that no fp16 scale reaches.
    """
    values, _ = lowbit.requantize((weight * scale).contiguous(), **levels._asdict())
    return values.div_(scale)


def search_linear(
    weight: Float[Tensor, "out in"],
    mean_abs: Float[Tensor, " in"],
    gram: Float[Tensor, "in in"],
    levels: Levels,
    ratios: Sequence[float] = RATIOS,
) -> Steps[ScaleSearch]:
    """The scales with which a linear layer's output, over all tokens behind `gram` = X^T X / T, changes least."""

    def loss(scale: Float[Tensor, " in"]) -> Steps[float]:
        yield from ()
        return output_error(round_scaled(weight, scale, levels).sub_(weight), gram)

    return (yield from _search(loss, mean_abs, ratios))


def search_module(
    task: BlockTask,
    path: str,
    readers: Sequence[str],
    calls: Sequence[tuple[Tensor, Call]],
    mean_abs: Float[Tensor, " in"],
    levels: Levels,
    ratios: Sequence[float] = RATIOS,
) -> Steps[ScaleSearch]:
    """The scales, shared by several matrices, with which the output of a module that holds them changes least.

    Args:
        task: the block.
        path: the module; its other matrices stay in full precision.
        readers: names of the matrices.
        calls: what the module is called with, batch by batch.
        mean_abs: mean of |x| of the input that the matrices read.
        levels: their grid.
        ratios: exponents to try.
    """
    full = [_run(task, path, one, task.weights) for one in calls]
    elements = sum(output.numel() for output in full)

    def loss(scale: Float[Tensor, " in"]) -> Steps[float]:
        rounded = {name: round_scaled(task.weights[name], scale, levels) for name in readers}
        total = 0.0
        for batch, output in enumerate(full):
            yield Progress(batch, len(full))
            changed = _run(task, path, calls[batch], dict(task.weights) | rounded)
            total += float((changed - output).square().sum(dtype=torch.float64))
        return total / elements

    return (yield from _search(loss, mean_abs, ratios))


def output_error(change: Float[Tensor, "out in"], gram: Float[Tensor, "in in"]) -> float:
    """Mean over tokens and outputs of the squared change of a layer's output: tr(D G D^T) / out.

    G is symmetric, so of each pair of columns only one product is formed, a panel at a time.
    """
    total, columns = 0.0, len(gram)
    for start in range(0, columns, PANEL):
        stop = min(start + PANEL, columns)
        product = (change[:, start:stop] @ gram[start:stop, start:]).mul_(change[:, start:])
        total += float(product[:, : stop - start].sum()) + 2 * float(product[:, stop - start :].sum())
    return total / len(change)


def _search(
    loss: Callable[[Float[Tensor, " in"]], Steps[float]], mean_abs: Float[Tensor, " in"], ratios: Sequence[float]
) -> Steps[ScaleSearch]:
    losses: list[float] = []
    for done, ratio in enumerate(ratios):
        yield Progress(done, len(ratios))
        try:
            steps = loss(column_scales(mean_abs, ratio))
            losses.append((yield from within(steps, done, done + 1, len(ratios))))
        except lowbit.LowbitError:
            losses.append(float("inf"))
    best = ratios[min(range(len(losses)), key=losses.__getitem__)]
    return ScaleSearch(best, column_scales(mean_abs, best), tuple(losses))


@torch.no_grad()
def _run(task: BlockTask, path: str, called: tuple[Tensor, Call], weights: Mapping[str, Tensor]) -> Tensor:
    first, call = called
    return task.block.run_inside(path, call, first, weights)
