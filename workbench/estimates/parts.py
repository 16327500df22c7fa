"""What studies are made of, each with its time and memory: passes over a text, statistics, gradients, rounding.

Sizes follow the routines that do the work: the windows that they run at once, what they keep, and the sums of
`model.accumulate.sum_bytes` and `model.block_ranges`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from workbench.estimates.bench import Bench
from workbench.estimates.need import Need, in_turn
from workbench.model.accumulate import sum_bytes
from workbench.model.block_ranges import PER_WEIGHT, SPARE, WHOLE_MODEL
from workbench.model.memory import available_memory
from workbench.model.sites import LEVELS, VECTORS
from workbench.model.texts import Windows
from workbench.model.weightstats import GRADIENTS
from workbench.studies.reference import BATCH_LOGITS, KEPT_LOGITS

AT_ONCE = 16
"""Windows of a measuring run at most."""

LOGIT_COPIES = 3
"""Logits of a batch that are held at once: the model's own, as float32, and what a loss makes of them."""

PRODUCT = 2.2
"""A Hessian product in passes forward and back: its graph is taken twice."""

ROW = 1.5e-3
"""Seconds a matrix for its errors whatever its size; measured on one core."""

SPARED = 0.2
"""Part of a comparison that is not done again where what the full model says is kept."""

DIVERGING = 0.35
"""A divergence alone, in comparisons; both measured on the embedded model."""

WALK_TOKENS = 2048
SWEEP_TOKENS = 4096


def forwards(bench: Bench, windows: Windows, times: float = 1.0) -> Need:
    """The model over all windows, losses taken."""
    units, batch = bench.units, _batch(bench, windows)
    seconds = math.ceil(len(windows.ids) / batch) * units.run + windows.tokens * units.forward
    return Need(times * seconds, _batch_bytes(bench, batch * windows.window))


def reference(bench: Bench, windows: Windows) -> Need:
    """The full model over all windows; its logits are kept as far as they are."""
    run = forwards(bench, windows)
    kept = 4 * min(windows.tokens * bench.shape.vocabulary, KEPT_LOGITS)
    return Need(run.seconds, run.peak + kept, kept)


def compare(bench: Bench, windows: Windows, times: float = 1.0) -> Need:
    """The model with other weights over all windows, held against the full one; the logits that were not kept anew."""
    numbers = windows.tokens * bench.shape.vocabulary
    kept = min(1.0, KEPT_LOGITS / numbers)
    run = forwards(bench, windows, 2 - kept)
    laid = math.ceil(len(windows.ids) / _batch(bench, windows)) * 3 * bench.shape.weights * bench.units.touch
    doubles = 8 * 4 * min(2**18, _batch(bench, windows) * windows.window * bench.shape.vocabulary)
    seconds = run.seconds + windows.tokens * (1 - SPARED * kept) * bench.units.compare + laid
    return Need(times * seconds, run.peak + doubles + 2 * _largest(bench) * 4)


def collect(bench: Bench, windows: Windows, needs: Collection[str]) -> Need:
    """Statistics of the inputs of all sites, from one run over the windows."""
    wanted, sites = {*needs, *VECTORS} & set(LEVELS), bench.shape.sites
    held = sum_bytes(sites, wanted) * 3 // 4  # what is summed in float64 goes site by site
    if bench.knows_statistics(windows):
        return Need(held * bench.units.touch / 4, held // 2, held // 2)
    batch = max(1, min(len(windows.ids), SWEEP_TOKENS // windows.window))
    body = (1 - bench.shape.head_share) * windows.tokens * bench.units.forward
    body += math.ceil(len(windows.ids) / batch) * bench.units.run
    activations = 4 * 2 * batch * windows.window * (2 * max(sites) + bench.shape.hidden)
    seconds = body + windows.tokens * _sums(bench, wanted, sites)
    return Need(seconds, held + activations, held // 2)


def _sums(bench: Bench, wanted: Collection[str], sites: Iterable[int]) -> float:
    """Seconds a token of adding up what is wanted at these sites."""
    columns = list(sites)
    square = sum(one**2 for one in columns) if "gram" in wanted else 0
    blocks = 128 * sum(columns) if "gram_blocks" in wanted and not square else 0
    return bench.units.channel * sum(columns) + bench.units.gram * (square + blocks)


def gradient_pass(bench: Bench, windows: Windows, times: float = 1.0, *, one_by_one: bool = False) -> Need:
    """Passes forward and back over all windows."""
    size = 1 if one_by_one else _gradient_batch(bench, windows)
    runs = math.ceil(len(windows.ids) / size)
    seconds = runs * bench.units.gradient_run + windows.tokens * bench.units.gradient
    return Need(times * seconds, _working(bench, size * windows.window, ()))


def gradients(bench: Bench, windows: Windows, needs: Collection[str], nodes: int = 4) -> Need:
    """A gradient sweep: in as many ranges of blocks as memory asks for."""
    asked = set(needs) & set(GRADIENTS)
    shape = bench.shape
    single = bool(asked & {"grad_sq", "hessian_step", "hessian_gradient"})
    size = 1 if single else _gradient_batch(bench, windows)
    working = _working(bench, size * windows.window, asked)
    sums = shape.bytes * sum(PER_WEIGHT[one] for one in asked) * shape.weights
    ranges = _ranges(bench, working, sums)
    passes = [gradient_pass(bench, windows, ranges, one_by_one="grad_sq" in asked)] if _plain(asked) else []
    passes += [gradient_pass(bench, windows, ranges * nodes)] if "path" in asked else []
    curved = len(asked & {"hessian_step", "hessian_gradient"})
    passes += [gradient_pass(bench, windows, PRODUCT * ranges * curved, one_by_one=True)] if curved else []
    passes += [gradient_pass(bench, windows)] if "hessian_gradient" in asked else []
    touched = (2 + 3 * nodes * ("path" in asked) + 4 * len(asked)) * shape.weights * bench.units.touch
    done = in_turn(passes)
    return Need(done.seconds + touched, working + sums // ranges)


def _plain(asked: set[str]) -> bool:
    return bool(asked & {"grad", "grad_sq"})


def _ranges(bench: Bench, working: int, sums: int) -> int:
    """As `block_ranges` cuts them: by four fifths of what is free."""
    room = int(SPARE * available_memory()) - working
    most = bench.shape.blocks
    return most if room <= 0 else min(most, max(1, math.ceil(sums / room)))


def held_codes(bench: Bench, bits: int | None) -> int:
    """Bytes of quantized weights: codes, scales and zero points."""
    return int(bench.shape.weights * ((bits or 2) + 1) / 8)


def dense(bench: Bench) -> int:
    """Bytes of the dense values of all matrices."""
    return 4 * bench.shape.weights


def output_errors(bench: Bench, times: float = 1.0) -> Need:
    """Weight and output errors of every matrix from its Gram matrix: two products in float64 each."""
    products = sum(2 * rows * columns**2 for rows, columns in bench.shape.matrices)
    touched = 30 * bench.shape.weights
    largest = max(8 * (columns**2 + 3 * rows * columns) for rows, columns in bench.shape.matrices)
    fixed = ROW * len(bench.shape.matrices)
    return Need(times * (products * bench.units.gram + touched * bench.units.touch + fixed), largest)


def changes(bench: Bench, windows: Windows, cells: int, *, divergence: bool = False, of: float = 1.0) -> Need:
    """Matrices changed one at a time: what lies behind each is computed anew, batch by batch.

    Args:
        bench: the model.
        windows: the text.
        cells: how many changes.
        divergence: whether KL is taken too.
        of: part of the windows that is used.
    """
    units, shape = bench.units, bench.shape
    size = max(1, min(8, int(min(8e6 / shape.vocabulary, 4e9 / shape.parameters) // windows.window)))
    runs, tokens = of * math.ceil(len(windows.ids) / size), of * windows.tokens
    whole = runs * units.run + tokens * (units.forward + units.compare * divergence)
    part = shape.behind * (runs * units.run + tokens * units.forward) + tokens * DIVERGING * units.compare * divergence
    touched = cells * runs * 4 * shape.weights / len(shape.matrices) * units.touch
    notes = 4 * size * windows.window * (shape.activations // shape.blocks + 8 * shape.hidden)
    # one whole pass, one block at a time to note it, and a look at the first batch of every block
    noted = (2 + shape.blocks * shape.behind / max(runs, 1)) * whole if cells else 0.0
    return Need(noted + cells * part + touched, _batch_bytes(bench, size * windows.window) + notes)


def maps(bench: Bench, seconds: float, rows: int, tokens: int, *, backward: bool) -> Need:
    """Maps of a prompt: the seconds are those of the cost formulas; what goes back keeps all activations."""
    at_once = min(rows, max(1, 8192 // max(tokens, 1))) * tokens
    held = (2 * bench.shape.activations if backward else 4 * bench.shape.activations // bench.shape.blocks) * at_once
    attention = bench.shape.heads * tokens * at_once * (bench.shape.blocks if backward else 1)
    return Need(seconds, 4 * (held + attention + 2 * at_once * bench.shape.vocabulary))


def _batch(bench: Bench, windows: Windows) -> int:
    return max(1, min(AT_ONCE, len(windows.ids), BATCH_LOGITS // (windows.window * bench.shape.vocabulary)))


def _batch_bytes(bench: Bench, tokens: int) -> int:
    """Logits and the widest activations of tokens that run at once."""
    widest = max(rows + columns for rows, columns in bench.shape.matrices)
    return 4 * tokens * (LOGIT_COPIES * bench.shape.vocabulary + 3 * widest + 4 * bench.shape.hidden)


def _gradient_batch(bench: Bench, windows: Windows) -> int:
    """As `model.backward.batches_of` cuts them."""
    tokens = min(2048, 8e9 / (6 * bench.shape.parameters), 8e6 / bench.shape.vocabulary)
    return max(1, min(len(windows.ids), int(tokens // windows.window)))


def _working(bench: Bench, tokens: int, needs: Collection[str]) -> int:
    """As `block_ranges.working_bytes` has it, from shapes alone."""
    shape = bench.shape
    activations = 2 * tokens * (shape.activations + 2 * shape.vocabulary)
    second = 2 if {"hessian_step", "hessian_gradient"} & set(needs) else 1
    everywhere = max((WHOLE_MODEL.get(need, 0) for need in needs), default=0) * shape.weights
    everywhere = max(everywhere, shape.parameters) if "synflow" in needs else everywhere
    return shape.bytes * (second * activations + everywhere + 2 * _largest(bench))


def _largest(bench: Bench) -> int:
    return max(rows * columns for rows, columns in bench.shape.matrices)
