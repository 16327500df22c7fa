"""BiLLM: seconds of our searches beside the published ones, which binarize a masked matrix for every candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.measurement import Measurement
from workbench.model.sites import SiteStatistics
from workbench.quantizers.billm import billm

RUNS = 3
WIDTHS = (256, 1024)
BLOCK = 128
UP_LIMIT = 50


def measure() -> Iterator[Measurement]:
    """Square layers; processor time, best of several runs taken in turn."""
    for width in WIDTHS:
        yield from _square(width)


def _square(width: int) -> Iterator[Measurement]:
    weight, stats = _layer(width)
    held: dict[str, torch.Tensor] = {}
    seconds: dict[str, list[float]] = {"ours": [], "published": []}
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: billm(weight, stats).dequantize(),
        "published": lambda: published(weight, stats),
    }
    for _ in range(RUNS):
        for name, way in ways.items():
            started = time.process_time()
            held[name] = way()
            seconds[name].append(time.process_time() - started)
    ours, theirs = min(seconds["ours"]), min(seconds["published"])
    errors = {name: _error(weight, values, stats) for name, values in held.items()}
    same = float(((held["ours"] - held["published"]).abs() < 1e-3 * weight.std()).double().mean())
    note = f"{ours:.3f} over {theirs:.3f} s of processor time, best of {RUNS}; output error {errors['ours']:.5g} and "
    note += f"{errors['published']:.5g}, {same:.2%} of the weights within a thousandth of their spread"
    yield Measurement(f"billm {width} square over the published loops", ours / theirs, "x", 0.5, note)
    difference = abs(errors["ours"] / errors["published"] - 1)
    yield Measurement(f"billm {width} square, relative difference of output error", difference, "", 0.01)


def _layer(width: int) -> tuple[torch.Tensor, SiteStatistics]:
    """Heavy-tailed weights behind inputs with outlier channels, as the design's layer S."""
    generator = torch.Generator().manual_seed(width)
    inputs = torch.randn(4 * width, width, generator=generator)
    inputs = inputs @ (torch.eye(width) + torch.randn(width, width, generator=generator) / width**0.5)
    inputs *= torch.exp(0.7 * torch.randn(width, generator=generator))
    weight = 0.02 * torch.randn(width, width, generator=generator)
    weight *= torch.exp(0.5 * torch.randn(width, width, generator=generator))
    size, gram = inputs.abs(), inputs.T @ inputs / len(inputs)
    vectors = (inputs.mean(0), size.mean(0), size.amax(0), inputs.square().sum(0))
    return weight, SiteStatistics(len(inputs), *vectors, gram)


def _error(weight: torch.Tensor, values: torch.Tensor, stats: SiteStatistics) -> float:
    assert stats.gram is not None
    lost = weight.double() - values.double()
    return float(((lost @ stats.gram.double()) * lost).sum())


def published(weight: torch.Tensor, stats: SiteStatistics) -> torch.Tensor:
    """The released method step for step, float32: a loop over blocks, candidates, masks and terms."""
    assert stats.gram is not None
    upper = _upper(2 * stats.gram)
    held, values = weight.clone(), torch.empty_like(weight)
    for start in range(0, weight.shape[1], BLOCK):
        stop = min(start + BLOCK, weight.shape[1])
        part, diagonal = held[:, start:stop], upper.diagonal()[start:stop]
        salient, large = structure(part.square() / diagonal.square())
        binary = masked_terms(part, salient, 2) + masked_terms(part, ~salient & ~large, 1)
        binary += masked_terms(part, ~salient & large, 1)
        values[:, start:stop] = binary
        held[:, stop:] -= ((part - binary) / diagonal) @ upper[start:stop, stop:]
    return values


def _upper(hessian: torch.Tensor) -> torch.Tensor:
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def structure(salience: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of the salient columns and of the large ones among all, each candidate binarized in turn."""
    order = salience.abs().sum(0).argsort(descending=True)
    salient, least = torch.zeros_like(salience, dtype=torch.bool), float("inf")
    for count in range(1, UP_LIMIT):
        candidate = torch.zeros_like(salient)
        candidate[:, order[:count]] = True
        both = masked_terms(salience, candidate, 2) + masked_terms(salience, ~candidate, 2)
        lost = float((salience - both).square().mean())
        if lost < least:
            salient, least = candidate, lost
    large, least = torch.zeros_like(salient), float("inf")
    for point in torch.quantile(salience.abs()[~salient], torch.linspace(0.1, 0.9, 81)):
        candidate = salience.abs() >= point
        both = masked_terms(salience, ~salient & ~candidate, 1) + masked_terms(salience, ~salient & candidate, 1)
        lost = float((salience - both)[~salient].square().mean())
        if lost < least:
            large, least = candidate, lost
    return salient, large


def masked_terms(values: torch.Tensor, members: torch.Tensor, terms: int) -> torch.Tensor:
    """Binary terms over the members of each row; the others are NaN to the means and 0 in the end."""
    total = torch.zeros_like(values)
    for _ in range(terms):
        rest = torch.where(members, values - total, torch.nan)
        mean = torch.nan_to_num(rest.nanmean(1, keepdim=True))
        size = torch.nan_to_num((rest - mean).abs().nanmean(1, keepdim=True))
        total += torch.nan_to_num((rest - mean).sign() * size + mean) * members
    return total
