"""GPTQ and SliM-LLM's bit search beside their published loops, on one core, and whether both find the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks import published_loops
from benchmarks.measurement import Measurement
from workbench.linalg import inverse_cholesky
from workbench.model.sites import SiteStatistics
from workbench.quantizers.arithmetic.width_search import group_sums, search_widths
from workbench.quantizers.gptq import gptq

TOKENS = 4096
SEQUENCE = 512
RUNS = 7
BITS = 4
GROUP = 128
SEARCH_BITS = 2
SEARCH_GROUP = 32
"""As many groups in 1024 columns as a matrix of 4096 has at the paper's 128."""


def measure() -> Iterator[Measurement]:
    """Square matrices of two widths, 4096 tokens."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for width in (256, 1024):
            weight, inputs = _layer(width)
            yield from _gptq(weight, inputs)
            yield from _bit_search(weight, inputs)
    finally:
        torch.set_num_threads(threads)


def _layer(width: int) -> tuple[Tensor, Tensor]:
    """Heavy-tailed weights and correlated inputs of uneven size."""
    generator = torch.Generator().manual_seed(width)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    inputs = normal(TOKENS, width) @ (torch.eye(width) + normal(width, width) / width**0.5)
    weight = 0.02 * normal(width, width) * (1 + normal(width, width).square() / 4)
    return weight, inputs * torch.exp(0.7 * normal(width))


def _statistics(inputs: Tensor) -> SiteStatistics:
    size, sum_sq = inputs.abs(), inputs.square().sum(0)
    gram = inputs.T @ inputs / len(inputs)
    return SiteStatistics(len(inputs), inputs.mean(0), size.mean(0), size.amax(0), sum_sq, gram=gram)


def _in_turn(calls: dict[str, Callable[[], Any]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Best milliseconds of the processor of each call, and its result; in turn, as the machine is never quite alone."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    found: dict[str, Any] = {}
    for _ in range(RUNS):
        for name, call in calls.items():
            started = time.process_time()
            found[name] = call()
            times[name].append(1e3 * (time.process_time() - started))
    return {name: min(several) for name, several in times.items()}, found


def _gptq(weight: Tensor, inputs: Tensor) -> Iterator[Measurement]:
    """With the factor at hand, as all but the first matrix of a site find it, and from the Gram on."""
    stats = _statistics(inputs)
    gram = stats.gram
    assert gram is not None
    upper = inverse_cholesky(gram).upper.float()
    options = {"bits": BITS, "group_size": GROUP}
    gptq(weight, stats, **options)
    # the copy of the Gram comes last, because it takes the place of the factor that "sweep" finds made
    calls = {
        "their sweep": lambda: published_loops.gptq_sweep(weight, upper, BITS, GROUP),
        "their whole": lambda: published_loops.gptq(weight, gram, BITS, GROUP),
        "factor": lambda: inverse_cholesky(gram),
        "whole": lambda: gptq(weight, replace(stats, gram=gram.clone()), **options),
        "again": lambda: gptq(weight, stats, **options),
        "sweep": lambda: gptq(weight, stats, **options),
    }
    ms, found = _in_turn(calls)
    for name, limit in (("sweep", 1 / 3), ("whole", None)):
        differ = float((found[name].packed.codes() != found[f"their {name}"]).float().mean())
        note = f"{_times(ms[name], ms[f'their {name}'])}; {differ:.2%} of the codes differ"
        if name == "whole":
            note += f"; {ms['factor']:.1f} ms are the factor in float64, where LAPACK sets the pace"
        yield Measurement(
            f"GPTQ {name}, {len(weight)} wide, over published", ms[name] / ms[f"their {name}"], "x", limit, note
        )


def _bit_search(weight: Tensor, inputs: Tensor) -> Iterator[Measurement]:
    """On the sample of 512 rows that ours reads, and on the same rows as the published loop."""
    scores = group_sums(weight.square() * inputs.square().mean(0), SEARCH_GROUP)
    sequences = list(inputs.split(SEQUENCE))

    def search(rows: Tensor) -> tuple[int, ...]:
        options = {"bits": SEARCH_BITS, "group_size": SEARCH_GROUP, "symmetric": False}
        return search_widths(weight, scores, rows, **options, objective="kl")

    calls = {
        "theirs": lambda: published_loops.bit_search(weight, scores, sequences, SEARCH_BITS, SEARCH_GROUP),
        "all rows": lambda: search(inputs),
        "sample": lambda: search(inputs[:: TOKENS // SEQUENCE]),
    }
    ms, found = _in_turn(calls)
    for name, limit in (("sample", 1 / 5), ("all rows", None)):
        others = sum(ours != wanted for ours, wanted in zip(found[name], found["theirs"], strict=True))
        note = f"{_times(ms[name], ms['theirs'])}; {others} of {len(scores)} groups have another width"
        if name == "all rows":
            note += "; three products of the matrix are BLAS's"
        yield Measurement(
            f"SliM-LLM bit search, {name}, {len(weight)} wide, over published",
            ms[name] / ms["theirs"],
            "x",
            limit,
            note,
        )


def _times(ours: float, theirs: float) -> str:
    return f"{ours:.1f} over {theirs:.1f} ms of processor time, {theirs / ours:.1f} times as fast; best of {RUNS}"
