"""Gradients of the loss for every matrix, one range of blocks at a time; path integrals and Hessian products with them.

The statistics of levels L3 and L4: they are handed to the caller matrix by matrix and dropped, because those of a whole
model are as large as the model or larger. Nothing of the model is changed at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from workbench.errors import WorkbenchError, unknown
from workbench.model.block_ranges import block_ranges, check_differentiable, range_bytes
from workbench.model.chain_sweep import STEPPING, ChainSweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.memory import return_freed_memory
from workbench.model.path import is_moved, path_points
from workbench.model.range_sweep import RangeSweep
from workbench.model.texts import Windows
from workbench.model.weightstats import NEEDS, WeightStatistics
from workbench.progress import Progress, Steps, within

__all__ = ["SweepFacts", "gradient_sweep"]

TEXT_FREE = {"synflow", "quantized"}
NODES = 64
"""Most points of a path."""


@dataclass(frozen=True)
class SweepFacts:
    """What a gradient sweep did.

    Attributes:
        windows: windows of the text.
        tokens: tokens of the text.
        loss: mean loss of the model as it is, nats; None when only the path was walked.
        ranges: ranges of blocks that were worked through one after the other.
        passes: forward and backward passes over the whole text.
        path_losses: mean loss at each node of the path, nats.
        changed: matrices whose quantized weight differs from their own.
    """

    windows: int
    tokens: int
    loss: float | None
    ranges: int
    passes: int
    path_losses: tuple[float, ...] = ()
    changed: int = 0


def gradient_sweep(
    loaded: LoadedModel,
    windows: Windows | None,
    *,
    needs: Collection[str],
    weights: Mapping[str, Tensor] | None = None,
    nodes: int = 4,
    rule: str = "midpoint",
    consume: Callable[[Matrix, WeightStatistics], None],
    memory: int | None = None,
) -> Steps[SweepFacts]:
    """Collect gradients and what is made of them, and hand over one matrix after the other.

    Args:
        loaded: the model; unchanged at every yield and afterwards.
        windows: the text whose mean token loss is differentiated; None where no need reads a text.
        needs: names from `weightstats.NEEDS`.
        weights: matrix name -> dense quantized weight `[out, in]`; None or absent where a matrix stays as it is.
        nodes: points of the path.
        rule: where they lie, from `path.RULES`.
        consume: is called once for every matrix, in the model's order, with `site` left out.
        memory: bytes that gradients and their working space may take; None for four fifths of those that are free.

    Raises:
        WorkbenchError: unknown need, no quantized weights where they are needed, windows without a next token, packed
            weights, too little memory, or a loss that is not a number.
    """
    matrices, chosen = quantizable_matrices(loaded.model), weights or {}
    check_sweep(windows, needs, weights, nodes)
    check_differentiable(loaded.model, matrices)
    points = path_points(nodes, rule)
    if loaded.streamed:
        chained = ChainSweep(loaded, windows, set(needs), chosen, points, memory)
        if (yield from within(chained.open(), 0.0, 0.01)):
            changed = yield from within(chained.run(consume), 0.01, 1.0)
            return _facts(windows, chained, 1, changed)
    sweep = RangeSweep(loaded, windows, set(needs), chosen, points, matrices)
    ranges = block_ranges(loaded.model, matrices, needs, sweep.working, memory)
    for place, part in enumerate(ranges):
        size = (sweep.working + range_bytes(loaded.model, part, needs)) / 2**30
        where = f", range {place + 1} of {len(ranges)}" if len(ranges) > 1 else ""
        sweep.note = f"{len(part)} matrices (about {size:.2g} GiB{where})"
        found = yield from within(sweep.run(part), place, place + 1, len(ranges))
        for matrix in part:
            yield Progress(place + 1, len(ranges), matrix.name)
            consume(matrix, found.pop(matrix.name))
        return_freed_memory()
    changed = sum(is_moved(loaded.model, matrix, chosen) for matrix in matrices)
    return _facts(windows, sweep, len(ranges), changed)


def _facts(windows: Windows | None, sweep: RangeSweep | ChainSweep, ranges: int, changed: int) -> SweepFacts:
    return SweepFacts(
        windows=0 if windows is None else len(windows.ids),
        tokens=0 if windows is None else windows.tokens,
        loss=sweep.loss,
        ranges=ranges,
        passes=sweep.passes,
        path_losses=sweep.path_losses,
        changed=changed,
    )


def check_sweep(
    windows: Windows | None, needs: Collection[str], weights: Mapping[str, Tensor | None] | None, nodes: int
) -> None:
    """Refuse what cannot be computed, before anything is.

    Raises:
        WorkbenchError: see `gradient_sweep`.
    """
    for need in needs:
        if need not in NEEDS:
            raise unknown("statistic", need, list(NEEDS))
    if windows is None and not TEXT_FREE.issuperset(needs):
        raise WorkbenchError("a gradient is of the loss on a text, and no text was given")
    if windows is not None and windows.window < 2:
        raise WorkbenchError(
            f"text {windows.name[:80]!r} has windows of 1 token; a loss needs a next token, so at least 2"
        )
    if not 1 <= nodes <= NODES:
        raise WorkbenchError(f"nodes has value {nodes}; it must lie between 1 and {NODES}")
    if weights is None and STEPPING & set(needs):
        raise WorkbenchError("the path to a quantized weight was asked for and no quantizer or plan was given")
