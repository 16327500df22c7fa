"""What it takes to quantize a model, by what a quantizer looks at: a matrix, gradients, a block, or the model."""

from __future__ import annotations

import math

from workbench.estimates.bench import Bench
from workbench.estimates.need import Need
from workbench.estimates.parts import (
    WALK_TOKENS,
    collect,
    dense,
    gradient_pass,
    gradients,
    held_codes,
)
from workbench.model.accumulate import sum_bytes
from workbench.model.sites import LEVELS, VECTORS
from workbench.model.texts import Windows
from workbench.model.weightstats import GRADIENTS
from workbench.quantizers.driving.schemes import inner_scheme, reads_text
from workbench.registry import quantizers
from workbench.scheme import UNTOUCHED, Scheme

AWQ_FORWARDS = 45
"""Block forwards that AWQ's search and clipping take, in runs over `sample` tokens; measured."""

CLIPS = 0.05
"""Seconds a matrix for trying clips on histograms, whatever its size."""

LEARNING = 3.5
"""A pass forward and back of PTQ1.61's learning, in block forwards."""


def quantize(bench: Bench, scheme: Scheme, windows: Windows | None, *, isolated: bool = False) -> Need:
    """Every matrix under one complete scheme; what stays held are the codes."""
    if scheme.bits == UNTOUCHED:
        return Need()
    method = quantizers.get(scheme.quantizer)
    kept = held_codes(bench, scheme.bits)
    work = _work(bench, scheme, windows, isolated)
    factors = max(12 * columns**2 + 16 * rows * columns for rows, columns in bench.shape.matrices)
    working = factors if method.needs or method.traits["scope"] != "matrix" else factors // 4
    return Need(work.seconds, kept + max(work.peak, working), kept)


def values(bench: Bench, scheme: Scheme, windows: Windows | None, *, isolated: bool = False) -> Need:
    """The same, and the values that the codes stand for as dense weights, which stay held too."""
    whole = quantize(bench, scheme, windows, isolated=isolated)
    return whole.then(Need(0.0, dense(bench), dense(bench)))


def _work(bench: Bench, scheme: Scheme, windows: Windows | None, isolated: bool) -> Need:
    method = quantizers.get(scheme.quantizer)
    scope, needs = method.traits["scope"], set(method.needs)
    if scope == "model":
        return _on_top(bench, scheme, windows, isolated)
    if scope == "block":
        return _by_blocks(bench, scheme, windows)
    seconds = bench.rounding(scheme)
    if windows is None or not reads_text(scheme):
        return Need(seconds)
    if needs & set(GRADIENTS):
        swept = gradients(bench, windows, needs & set(GRADIENTS))
        inputs = collect(bench, windows, needs & set(LEVELS)) if needs & set(LEVELS) else Need()
        return Need(seconds + swept.seconds + inputs.seconds, max(swept.peak, inputs.peak))
    follows = not isolated and scheme.options.get("inputs", "full") != "full"
    walked = walk(bench, windows, needs & set(LEVELS), follows)
    return Need(seconds + walked.seconds, walked.peak)


def walk(bench: Bench, windows: Windows, needs: set[str], follows: bool) -> Need:
    """Block by block: the block runs once for every site, and on to the next one, twice where two streams go."""
    shape, units = bench.shape, bench.units
    wanted, sites = {*needs, *VECTORS}, len(shape.sites) / shape.blocks
    batches = math.ceil(windows.tokens / WALK_TOKENS)
    body = (1 - shape.head_share) * windows.tokens * units.forward + batches * units.run
    sums = windows.tokens * (
        units.channel * sum(shape.sites) + units.gram * sum(one**2 for one in shape.sites) * ("gram" in wanted)
    )
    hidden = 4 * windows.tokens * shape.hidden * (4 if follows else 2)
    held = sum_bytes([max(shape.sites)], wanted)
    return Need((sites + (2 if follows else 1)) * body + sums, hidden + held)


def _by_blocks(bench: Bench, scheme: Scheme, windows: Windows | None) -> Need:
    if windows is None:
        return Need()
    through = walk(bench, windows, {"gram"} if scheme.quantizer == "awq" else {"max_abs"}, True)
    body = (1 - bench.shape.head_share) * bench.units.forward
    if scheme.quantizer == "awq":
        tokens = min(windows.tokens, int(scheme.options.get("sample", windows.tokens)))
        search = AWQ_FORWARDS * (tokens * body + math.ceil(tokens / WALK_TOKENS) * bench.units.run)
        search += 10 * bench.shape.weights * max(scheme.group_size, 1) * bench.units.gram * 2
    else:
        epochs = int(scheme.options.get("epochs", 20))
        batches = len(windows.ids)
        search = epochs * LEARNING * (windows.tokens * body + batches * bench.units.run)
    return Need(through.seconds + search, through.peak + 4 * 2 * windows.tokens * bench.shape.hidden)


def _on_top(bench: Bench, scheme: Scheme, windows: Windows | None, isolated: bool) -> Need:
    """Methods that quantize with another one again and again, and walk paths between."""
    below = _work(bench, inner_scheme(str(scheme.options["dense"]), scheme), windows, isolated)
    if "path" not in quantizers.get(scheme.quantizer).needs or windows is None:
        clips = len(bench.shape.matrices) * CLIPS + 51 * 20 * bench.shape.weights * bench.units.touch
        return Need(below.seconds + clips, below.peak + 2 * dense(bench))
    steps, nodes = int(scheme.options.get("steps", 1)), int(scheme.options.get("nodes", 4))
    paths = gradient_pass(bench, windows, (1 + steps) * nodes)
    sums = gradients(bench, windows, {"path"}, nodes)
    return Need(2 * below.seconds + paths.seconds, max(below.peak, sums.peak) + 2 * dense(bench))
