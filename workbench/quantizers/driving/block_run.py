"""The walk of a quantization run: each block's matrices, fed with what their methods ask for.

Which activations feed a matrix is said by its option `inputs`: those of the full model (`full`, also where there is no
such option), those behind the quantized blocks (`quantized`), or behind the quantized matrices of its own block as well
(`sequential`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from workbench.errors import shown
from workbench.model.block_task import BlockTask
from workbench.model.blocks import Block
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.sites import SiteStatistics
from workbench.model.texts import Windows
from workbench.model.walk import BlockWalk
from workbench.model.work_room import room_for
from workbench.progress import Progress, Steps, within
from workbench.quantizers.driving.model_task import Weights
from workbench.quantizers.driving.packing import Part
from workbench.quantizers.driving.schemes import arguments_of
from workbench.quantizers.driving.single import full_weight, input_needs, quantize_one
from workbench.quantizers.weight import QuantizedWeight
from workbench.registry import quantizers
from workbench.scheme import UNTOUCHED, Scheme

COPIES = 3
"""Float32 tensors of a matrix's size that a method holds at once."""
BLOCK_COPIES = 3
"""Likewise of a method that looks at a whole block and says nothing of it: float32 copies of the block's matrices."""
GRAM_BYTES = 32
"""Bytes an entry of the Gram matrix: itself in float32, and what is made of it in float64."""


class BlockRun:
    """Quantizes one block after the other.

    Args:
        loaded: the model.
        windows: the calibration text; None where nothing reads it.
        assignment: matrix -> complete scheme.
        weights: full weights to start from instead of the model's own.
        isolated: feed every matrix what the full model computes.
        found: what has been quantized so far; the driver adds to it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        windows: Windows | None,
        assignment: Mapping[str, Scheme],
        weights: Weights,
        isolated: bool,
        found: Mapping[str, QuantizedWeight],
    ) -> None:
        self.loaded, self.windows, self.assignment = loaded, windows, assignment
        self.weights, self.isolated, self.found = weights, isolated, found
        chosen = [scheme for scheme in assignment.values() if scheme.bits != UNTOUCHED]
        self.follows = not isolated and any(self._feed(one) != "full" or _of_block(one) for one in chosen)
        self._walk: BlockWalk | None = None

    def quantize(self, block: Block, matrices: Sequence[Matrix]) -> Steps[Part]:
        """These matrices of the block."""
        part = Part({}, {})
        groups = by_scheme([m for m in matrices if _of_block(self.assignment[m.name])], self.assignment)
        single = [m for m in matrices if not _of_block(self.assignment[m.name])]
        sites = list(dict.fromkeys(matrix.site for matrix in single))
        total = len(groups) + len(sites)
        for place, (scheme, group) in enumerate(groups):
            part.weights.update((yield from within(self._block(block, scheme, group), place, place + 1, total)))
        for place, site in enumerate(sites, start=len(groups)):
            here = [matrix for matrix in single if matrix.site == site]
            yield from within(self._site(block, site, here, part), place, place + 1, total)
        return part

    def _block(self, block: Block, scheme: Scheme, group: Sequence[Matrix]) -> Steps[dict[str, QuantizedWeight]]:
        walk = yield from self._reach(block)
        method = quantizers.get(scheme.quantizer)
        copies = method.traits.get("block_copies", BLOCK_COPIES)
        needed = 4 * copies * sum(matrix.parameters for matrix in group)
        with self._room(needed, f"{method.name} of the matrices of {shown(block.path)}"):
            weights = {matrix.name: full_weight(self.loaded, matrix, self.weights) for matrix in group}
            task = BlockTask(walk, block, tuple(group), weights)
            return (yield from method(task, **arguments_of(scheme)))

    def _site(self, block: Block, site: str, here: Sequence[Matrix], part: Part) -> Steps[None]:
        """The matrices that read one site; those that are fed alike share its statistics."""
        feeds = list(dict.fromkeys(self._feed(self.assignment[matrix.name]) for matrix in here))
        for place, feed in enumerate(feeds):
            fed = [matrix for matrix in here if self._feed(self.assignment[matrix.name]) == feed]
            steps = self._statistics(block, site, fed, feed, part)
            stats = yield from within(steps, place, place + 0.5, len(feeds))
            for done, matrix in enumerate(fed):
                yield Progress(place + 0.5 + 0.5 * done / len(fed), len(feeds), f"quantizing {matrix.name}")
                scheme = self.assignment[matrix.name]
                mine = stats if input_needs(scheme) else None
                with self._room(_bytes(matrix, mine), f"quantizing {shown(matrix.name)}"):
                    quantize_one(part, matrix, full_weight(self.loaded, matrix, self.weights), mine, scheme)

    def _room(self, needed: int, purpose: str) -> AbstractContextManager[None]:
        """Room for so many bytes beside a block of a model that is read block by block."""
        return room_for(self.loaded.model, needed, purpose) if self.loaded.streamed else nullcontext()

    def _statistics(
        self, block: Block, site: str, fed: Sequence[Matrix], feed: str, part: Part
    ) -> Steps[SiteStatistics | None]:
        needs = set().union(*(input_needs(self.assignment[matrix.name]) for matrix in fed))
        if not needs:
            return None
        walk = yield from self._reach(block)
        before = _dense(part.weights) if feed == "sequential" else {}
        stream = "full" if feed == "full" else "quantized"
        return (yield from walk.statistics(block, site, needs, stream=stream, weights=before))

    def _feed(self, scheme: Scheme) -> str:
        return "full" if self.isolated else str(scheme.options.get("inputs", "full"))

    def _reach(self, block: Block) -> Steps[BlockWalk]:
        """The walk, standing before the block; blocks that were read from disk are walked through now."""
        if self._walk is None:
            assert self.windows is not None  # the driver has seen to it
            self._walk = BlockWalk(self.loaded, self.windows)
            yield from within(self._walk.open(), 0.0, 0.0)
        walk = self._walk
        while walk.blocks[walk.place].index < block.index:
            names = [matrix.name for matrix in walk.blocks[walk.place].matrices]
            behind = {name: self.found[name] for name in names if name in self.found} if self.follows else {}
            yield from within(walk.advance(_dense(behind)), 0.0, 0.0)
        return walk


def _of_block(scheme: Scheme) -> bool:
    return quantizers.get(scheme.quantizer).traits["scope"] == "block"


def _bytes(matrix: Matrix, stats: SiteStatistics | None) -> int:
    """What quantizing a matrix holds: a few copies of it, and of its Gram matrix the damped one and its factors."""
    square = 0 if stats is None or stats.gram is None else matrix.columns**2
    return 4 * COPIES * matrix.parameters + GRAM_BYTES * square


def _dense(quantized: Mapping[str, QuantizedWeight]) -> dict[str, Tensor]:
    return {name: weight.dequantize(torch.float32) for name, weight in quantized.items()}


def by_scheme(matrices: Sequence[Matrix], assignment: Mapping[str, Scheme]) -> list[tuple[Scheme, list[Matrix]]]:
    """The matrices that share a scheme, scheme by scheme in the order in which they come."""
    groups: list[tuple[Scheme, list[Matrix]]] = []
    for matrix in matrices:
        scheme = assignment[matrix.name]
        mine = next((group for one, group in groups if one == scheme), None)
        if mine is None:
            groups.append((scheme, [matrix]))
        else:
            mine.append(matrix)
    return groups
