"""From an assignment to quantized weights: one walk through the model, block by block, that feeds each quantizer.

Memory holds the hidden states in front of one block and the statistics of one site at a time. Every quantizer is given
what it declares: nothing, statistics of a matrix's inputs, squared gradients, a block, or the model with another
quantizer below. What a part of the run gives is kept on disk when it is finished, so that a run that was stopped goes
on from there with the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import WorkbenchError, shown
from workbench.model.blocks import block_path, find_blocks
from workbench.model.lazy_weights import LazyWeights
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.quantizers.driving.block_run import BlockRun, by_scheme
from workbench.quantizers.driving.kept_parts import KeptParts, name_of
from workbench.quantizers.driving.model_task import ModelTask, Weights
from workbench.quantizers.driving.on_disk import WeightsOnDisk
from workbench.quantizers.driving.packing import Part
from workbench.quantizers.driving.schemes import arguments_of, reads_text
from workbench.quantizers.driving.single import quantize_by_gradients, quantize_outside, reads_gradients
from workbench.quantizers.weight import QuantizedWeight
from workbench.registry import quantizers
from workbench.scheme import UNTOUCHED, Scheme


@dataclass(eq=False)
class Quantized:
    """What a run gives.

    Attributes:
        weights: matrix -> quantized weight, in the model's order; without those left at 16 bits. Those of a model that
            is read block by block lie on disk and are read when they are asked for.
        notes: matrix -> what had to be changed to get it, such as a raised damping.
    """

    weights: Mapping[str, QuantizedWeight] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def dense(self) -> Mapping[str, Tensor]:
        """The dequantized weights, float32 `[out, in]`, for the overlay; made when asked for where they lie on disk."""
        if isinstance(self.weights, WeightsOnDisk):
            held = self.weights
            return LazyWeights(held.shapes, lambda name: held[name].dequantize(torch.float32))
        return {name: weight.dequantize(torch.float32) for name, weight in self.weights.items()}


def quantize_model(
    loaded: LoadedModel,
    assignment: Mapping[str, Scheme],
    windows: Windows | None,
    *,
    folder: Path | None = None,
    weights: Weights | None = None,
    isolated: bool = False,
) -> Steps[Quantized]:
    """Quantize every matrix of an assignment that is not left at 16 bits; the model itself stays as it is.

    Args:
        loaded: the model.
        assignment: matrix -> complete scheme (`schemes.complete_scheme`).
        windows: the calibration text; None where no scheme reads one.
        folder: where finished parts are kept; not at all when None, and never where no scheme reads a text.
        weights: full weights `[out, in]` to start from instead of the model's own.
        isolated: feed every matrix what the full model computes, whatever its option `inputs` says: for looking at each
            matrix alone.

    Raises:
        WorkbenchError: a scheme that reads text and none was given, or whatever a method refuses.
    """
    calibrated = any(reads_text(scheme) for scheme in assignment.values())
    if windows is None and calibrated:
        raise WorkbenchError("this choice of quantization reads a calibration text, and none was given")
    run = _Run(loaded, assignment, windows, weights or {}, isolated, folder if calibrated else None)
    return (yield from run.steps())


class _Run:
    def __init__(
        self,
        loaded: LoadedModel,
        assignment: Mapping[str, Scheme],
        windows: Windows | None,
        weights: Weights,
        isolated: bool,
        folder: Path | None,
    ) -> None:
        self.loaded, self.assignment, self.windows = loaded, assignment, windows
        self.weights, self.isolated, self.folder = weights, isolated, folder
        self.kept = KeptParts(folder, name_of(loaded, assignment, windows, weights, isolated) if folder else "")
        matrices = quantizable_matrices(loaded.model)
        self.matrices = [m for m in matrices if m.name in assignment and assignment[m.name].bits != UNTOUCHED]
        names = [matrix.name for matrix in self.matrices]
        self.on_disk = WeightsOnDisk(names) if loaded.streamed else None
        self.made: dict[str, QuantizedWeight] = {}
        self.notes: dict[str, str] = {}

    def steps(self) -> Steps[Quantized]:
        jobs = self._whole_model_jobs() + self._single_jobs()
        blocks = [block for block in find_blocks(self.loaded.model) if self._left(block.matrices)]
        total = len(jobs) + len(blocks)
        for place, (name, steps) in enumerate(jobs):
            self._add((yield from within(self.kept.part(name, steps), place, place + 1, total)), name)
        found = self.made if self.on_disk is None else self.on_disk
        walker = BlockRun(self.loaded, self.windows, self.assignment, self.weights, self.isolated, found)
        for place, block in enumerate(blocks, start=len(jobs)):
            steps, name = walker.quantize(block, self._left(block.matrices)), f"block-{block.index}"
            self._add((yield from within(self.kept.part(name, steps), place, place + 1, total)), name)
        if self.on_disk is not None:
            return Quantized(self.on_disk, self.notes)
        return Quantized({matrix.name: self.made[matrix.name] for matrix in self.matrices}, self.notes)

    def _add(self, part: Part, name: str) -> None:
        if self.on_disk is None:
            self.made |= part.weights
        else:
            self.on_disk.add(part, self.kept.path(name))
        self.notes |= part.notes

    def _left(self, matrices: tuple[Matrix, ...] | list[Matrix]) -> list[Matrix]:
        """Those of the matrices that the walk quantizes."""
        wanted = {matrix.name for matrix in self.matrices}
        return [m for m in matrices if m.name in wanted and self._scope(m) != "model" and not self._by_gradients(m)]

    def _scope(self, matrix: Matrix) -> str:
        return quantizers.get(self.assignment[matrix.name].quantizer).traits["scope"]

    def _by_gradients(self, matrix: Matrix) -> bool:
        return reads_gradients(self.assignment[matrix.name])

    def _single_jobs(self) -> list[tuple[str, Steps[Part]]]:
        """Matrices that are quantized one by one outside of the walk."""
        plain = [m for m in self.matrices if self._scope(m) != "model"]
        gradients = [m for m in plain if self._by_gradients(m)]
        outside = [m for m in plain if block_path(m) is None and not self._by_gradients(m)]
        lost = next((m for m in outside if self._scope(m) == "block"), None)
        if lost is not None:
            raise WorkbenchError(
                f"quantizer {self.assignment[lost.name].quantizer!r} looks at whole blocks, and {shown(lost.name)} "
                "lies in no block; give it another quantizer in a plan"
            )
        shared = (self.loaded, self.windows, self.assignment, self.weights)
        jobs = [("gradients", quantize_by_gradients(*shared, gradients))] if gradients else []
        return jobs + ([("outside", quantize_outside(*shared, outside))] if outside else [])

    def _whole_model_jobs(self) -> list[tuple[str, Steps[Part]]]:
        """Matrices of methods that work on top of another one, a job for each such scheme."""
        mine = [m for m in self.matrices if self._scope(m) == "model"]
        groups = by_scheme(mine, self.assignment)
        return [(f"model-{place}", self._whole_model(*group)) for place, group in enumerate(groups)]

    def _whole_model(self, scheme: Scheme, matrices: list[Matrix]) -> Steps[Part]:
        notes: dict[str, str] = {}

        def quantize(inner: Scheme, weights: Weights | None) -> Steps[dict[str, QuantizedWeight]]:
            below = {matrix.name: inner for matrix in matrices}
            given = dict(self.weights) | dict(weights or {})
            steps = quantize_model(
                self.loaded, below, self.windows, folder=self.folder, weights=given, isolated=self.isolated
            )
            made = yield from steps
            notes.update(made.notes)
            return dict(made.weights)

        task = ModelTask(self.loaded, tuple(matrices), self.windows, quantize)
        made = yield from quantizers.get(scheme.quantizer)(task, **arguments_of(scheme))
        return Part(made, notes)
