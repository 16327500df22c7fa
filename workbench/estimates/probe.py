"""A look of two seconds at most at how fast a model runs here: the house's own routines on a few tokens.

Every figure is the least of some tries. On a CPU it is the processor time of the thread that waits for all others, so
that what else runs on the machine is left out: estimates are of a machine that is free. Tokens come from a generator of
the probe's own, so that nothing random elsewhere changes. The model stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from workbench.estimates.shape import Shape
from workbench.estimates.units import Units, usual_units
from workbench.measures.agreement import top1_agreement
from workbench.measures.divergence import kl
from workbench.measures.perplexity import losses_of_logits, window_logits
from workbench.model.accumulate import Accumulator
from workbench.model.backward import make_leaves, sum_gradients
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices
from workbench.model.sites import VECTORS
from workbench.progress import Progress, Steps, run

SECONDS = 2.0
"""What all of it may take."""

WINDOW = 256
AIM = 0.12
"""Seconds that one try should take."""

TRIES = 3
SIDE = 512
"""Rows and columns that matrix products are tried on at most."""


class Clock:
    """Counts the probe's seconds.

    Args:
        limit: seconds in all.
        device: where the work is done; another one than the CPU works on while the processor waits.
    """

    def __init__(self, limit: float, device: torch.device) -> None:
        self._end, self._on_cpu = time.perf_counter() + limit, device.type == "cpu"

    @property
    def left(self) -> float:
        """Seconds that may still be spent."""
        return self._end - time.perf_counter()

    def least(self, work: Callable[[], Any], tries: int = TRIES) -> float:
        """Seconds of the quickest try; once, at least."""
        best, started = float("inf"), time.perf_counter()
        for _ in range(tries):
            start, start_here = time.perf_counter(), time.thread_time()
            work()
            now = time.perf_counter()
            best = min(best, time.thread_time() - start_here if self._on_cpu else now - start)
            if now - started > self.left / 4:
                break
        return best


def probe(loaded: LoadedModel, shape: Shape) -> Steps[Units]:
    """Measure a model's `Units`, but for those of methods, which `method_probe` looks at when one is asked for."""
    clock, units = Clock(SECONDS, loaded.model.device), usual_units(shape.parameters, shape.blocks, shape.vocabulary)
    for part in (_sums, _forwards, _gradients):
        yield Progress(0, 1, "a look at how fast this model runs here")
        if clock.left > 0.1 * SECONDS:
            part(loaded, shape, units, clock)
    return units


def _tokens(loaded: LoadedModel, shape: Shape, a_token: float) -> torch.Tensor:
    """Windows of random tokens that take about as long as a try should."""
    window = min(WINDOW, loaded.context)
    count = AIM / max(a_token, 1e-9)
    windows = int(min(2048, count) // window)
    size = (windows, window) if windows else (1, int(max(8, min(window, count))))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(shape.vocabulary, size, generator=generator)


def _forwards(loaded: LoadedModel, shape: Shape, units: Units, clock: Clock) -> None:
    """Two sizes of a forward, and the comparison of two predictions."""

    def forward(ids: torch.Tensor) -> torch.Tensor:
        logits = window_logits(loaded.model, ids)
        losses_of_logits(logits, ids)
        return logits

    small = torch.zeros(1, 2, dtype=torch.int64)
    first = clock.least(lambda: forward(small), 1)  # also wakes the model up
    units.run = min(first, clock.least(lambda: forward(small))) if first < clock.left / 8 else first
    ids = _tokens(loaded, shape, units.forward)
    whole = clock.least(lambda: forward(ids))
    units.forward = max(whole - units.run, whole / 2) / ids.numel()
    if clock.left > whole:
        logits = forward(ids)[:, :-1]
        both = clock.least(lambda: (kl(logits, logits), top1_agreement(logits, logits)), 2)
        units.compare = both / ids.numel()


def _gradients(loaded: LoadedModel, shape: Shape, units: Units, clock: Clock) -> None:
    """One pass forward and back, and one over two tokens for what does not depend on them."""
    matrices = quantizable_matrices(loaded.model)

    def sweep(ids: torch.Tensor) -> None:
        values: dict[str, torch.Tensor] = {}
        leaves = make_leaves(loaded.model, matrices, values)
        run(sum_gradients(loaded.model, values, leaves, [ids], ""))

    held = 3 * shape.bytes * shape.weights
    if clock.left < 4 * units.run or held > 2**30 or getattr(loaded, "streamed", False):
        units.gradient, units.gradient_run = 3 * units.forward, 3 * units.run
        return
    units.gradient_run = clock.least(lambda: sweep(torch.zeros(1, 2, dtype=torch.int64)))
    ids = _tokens(loaded, shape, 4 * units.forward)
    whole = clock.least(lambda: sweep(ids), 2)
    units.gradient = max(whole - units.gradient_run, whole / 2) / ids.numel()


def _sums(loaded: LoadedModel, shape: Shape, units: Units, clock: Clock) -> None:
    """Sums over the inputs of a site, without and with their Gram matrix; a weight that is changed."""
    columns = min(max(shape.sites), SIDE)
    rows = torch.randn(SIDE, columns, generator=torch.Generator().manual_seed(0)).to(loaded.model.device)
    nowhere, device = torch.zeros(0, dtype=torch.int64), loaded.model.device
    plain = Accumulator(columns, set(VECTORS), nowhere, device)
    square = Accumulator(columns, {*VECTORS, "gram"}, nowhere, device)
    without = clock.least(lambda: plain.add(rows, 0, SIDE))
    together = clock.least(lambda: square.add(rows, 0, SIDE))
    units.channel = without / rows.numel()
    units.gram = max(together - without, together / 10) / (SIDE * columns**2)
    weight = rows.repeat(4, 1)
    units.touch = clock.least(lambda: weight.mul(2.0).add_(weight)) / weight.numel()
    scores = weight.abs().flatten().cpu().numpy()
    units.sort = clock.least(lambda: np.sort(scores)) / scores.size
