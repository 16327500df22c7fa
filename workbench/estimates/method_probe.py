"""How long a metric or a quantizer takes: a matrix, or a piece of one, that is really scored or rounded.

The statistics are of random inputs. From the piece to the whole it is scaled by the cost formula that the method
registers, `in^3 + out * in` for example; where that cannot be read, by `out * in`.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from workbench.cost_formula import evaluate
from workbench.errors import WorkbenchError
from workbench.estimates.shape import Shape
from workbench.linalg import DampingRaised
from workbench.model.accumulate import diagonal_blocks
from workbench.model.sites import SAMPLE, SiteStatistics
from workbench.model.weightstats import GRADIENTS, WeightStatistics, only_of_inputs
from workbench.quantizers.driving.schemes import quantize_matrix
from workbench.registry import Method, quantizers
from workbench.scheme import Scheme

PIECE = 2**17
"""Weights of a piece at most."""

COLUMNS = 1024
GAIN, GAINING = 0.7, 100.0
"""Products of up to a hundred times the work take that to the power of 0.7 the time; measured with gptq."""

SECONDS = 0.5
"""What looking at one method may take."""

PLAIN = "out * in"


def pieces(shape: Shape, most: int = 4) -> list[tuple[int, int]]:
    """The shapes to try: the model's own where they are small, a piece of the commonest otherwise."""
    counted = sorted(set(shape.matrices), key=lambda one: -shape.matrices.count(one) * one[0] * one[1])
    small = [(min(rows, max(1, PIECE // min(columns, COLUMNS))), min(columns, COLUMNS)) for rows, columns in counted]
    return list(dict.fromkeys(small))[:most]


def scoring_seconds(method: Method, options: Mapping[str, Any], shape: Shape) -> dict[str, float]:
    """Shape of a piece -> seconds of scoring it; empty for a method that does not take random statistics."""

    def score(weight: torch.Tensor) -> None:
        known = _statistics(weight)
        method(weight, known.site if only_of_inputs(method.needs) else known, **options)

    return _timed(score, shape)


def rounding_seconds(scheme: Scheme, shape: Shape) -> dict[str, float]:
    """Shape of a piece -> seconds of quantizing it and writing its values out."""
    needs = quantizers.get(scheme.quantizer).needs

    def quantize(weight: torch.Tensor) -> None:
        known = _statistics(weight)
        quantize_matrix(weight, known if set(needs) & set(GRADIENTS) else known.site, scheme).dequantize(torch.float32)

    return _timed(quantize, shape)


def _timed(work: Any, shape: Shape) -> dict[str, float]:
    found: dict[str, float] = {}
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", DampingRaised)
        for rows, columns in pieces(shape):
            weight = 0.02 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
            try:
                spent = [_once(work, weight) for _ in range(2 if found or rows * columns < PIECE else 1)]
            except (WorkbenchError, RuntimeError, ValueError):
                break  # a method of another package that wants real statistics
            found[f"{rows}x{columns}"] = min(spent)
            if time.perf_counter() - started > SECONDS / 2:
                break
    _known.clear()  # what follows may be short of memory
    return found


def _once(work: Any, weight: torch.Tensor) -> float:
    start = time.thread_time()  # of the thread that waits for all others; methods work on the CPU
    work(weight)
    return time.thread_time() - start


_known: dict[tuple[int, int], WeightStatistics] = {}


def _statistics(weight: torch.Tensor) -> WeightStatistics:
    """Statistics of random inputs and gradients for a matrix; remembered for one shape, so that making them is not
    counted on the second try."""
    size = (weight.shape[0], weight.shape[1])
    if size not in _known:
        _known.clear()
        generator = torch.Generator().manual_seed(1)
        inputs = torch.randn(2 * max(SAMPLE, size[1]), size[1], generator=generator)
        gram = inputs.T @ inputs / len(inputs)
        site = SiteStatistics(
            len(inputs),
            inputs.mean(0),
            inputs.abs().mean(0),
            inputs.abs().amax(0),
            inputs.square().sum(0),
            gram,
            diagonal_blocks(gram),
            inputs[:SAMPLE].half(),
        )
        step = 0.001 * torch.randn(size, generator=generator)
        _known[size] = WeightStatistics(
            site, 8, 4, step, step.square(), weight + step, step.abs(), step, step, step, step
        )
    return _known[size]


def scaled(found: Mapping[str, float], formula: str, settings: Mapping[str, Any], rows: int, columns: int) -> float:
    """Seconds for a matrix, from the tried piece that is nearest to it in cost."""
    if not found:
        return 0.0
    asked = _cost(formula, settings, rows, columns)
    tried = {_cost(formula, settings, *map(int, name.split("x"))): spent for name, spent in found.items()}
    nearest = min(tried, key=lambda cost: abs(math.log(cost / asked)))
    more = max(1.0, asked / nearest)
    return tried[nearest] * (_products(more) if "^" in formula else more)


def _products(more: float) -> float:
    """How much longer larger matrix products take: they gain speed with their size, up to a point."""
    return min(more, GAINING) ** GAIN * max(1.0, more / GAINING)


def _cost(formula: str, settings: Mapping[str, Any], rows: int, columns: int) -> float:
    """A registered cost for a shape; `in` is a word of the language that reads it, so it goes by another name.

    `tok` counts nothing: what grows with the text is counted where the text is read.
    """
    names = {**settings, "out": rows, "columns": columns, "tok": 0}
    for text in (formula, PLAIN):
        try:
            return max(evaluate(re.sub(r"\bin\b", "columns", text), names).high, 1.0)
        except ValueError:
            continue
    return float(rows * columns)
