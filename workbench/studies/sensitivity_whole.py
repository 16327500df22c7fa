"""Sensitivities that are one number for the whole text: shares of the joint change from gradients, output errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from workbench.measures.error import output_error_from_gram
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.statistics import Statistics, collect
from workbench.model.streaming import let_go
from workbench.model.texts import Windows
from workbench.model.weightstats import WeightStatistics
from workbench.progress import Progress, Steps, within
from workbench.quantizers.weight import QuantizedWeight
from workbench.scheme import Scheme
from workbench.studies.choice import quantize_assignment
from workbench.studies.context import Context
from workbench.studies.sensitivity_cells import Cell, Kept, nodes_of
from workbench.studies.sensitivity_parts import WholeWork

NEEDS = {"joint-path": {"path"}, "second-order": {"grad", "hessian_step"}}
"""Way -> what it reads of the gradient sweep."""

Found = dict[str, dict[str, Any]]
"""Matrix name -> its cell."""


@dataclass(eq=False)
class WholeText:
    """Fills the cells of a table width by width.

    With d the step of all matrices, g the gradient and H the Hessian of the mean token loss: `joint-path` is the
    matrix's part of the integral of g(w + t d) . d over t from 0 to 1, by the Gauss-Legendre rule, and the parts sum to
    the measured change of the loss up to the rule's error (arXiv 2503.01901 for the path); `second-order` is its part
    of g . d + d . (H d) / 2. `output` is the relative error of the matrix's outputs, alone. None has a standard error.

    Attributes:
        loaded: the model.
        windows: the calibration text.
        matrices: all matrices of the table.
        kind: `joint-path`, `second-order` or `output`.
        nodes: points of the path at most (`nodes_of`).
        context: the store, and the folders of statistics and quantized weights.
    """

    loaded: LoadedModel
    windows: Windows
    matrices: Sequence[Matrix]
    kind: str
    nodes: int
    context: Context
    _statistics: Statistics | None = field(default=None, init=False)

    def run(self, cells: Sequence[Cell], kept: Kept) -> Steps[set[str]]:
        """Compute the cells that are not kept yet, and keep them; returns their keys."""
        missing = [cell for cell in cells if cell.key not in kept]
        work = WholeWork(self.windows, self.matrices, cells, self.kind, self.nodes)
        kept.update((yield from work.spread(self.loaded, missing, self.context)))
        left = [cell for cell in missing if cell.key not in kept]
        schemes = list({cell.scheme.bits: cell.scheme for cell in left}.values())
        for place, scheme in enumerate(schemes):
            steps = self._output_errors(scheme) if self.kind == "output" else self._shares(scheme)
            found = yield from within(steps, place, place + 1, len(schemes))
            for cell in (cell for cell in left if cell.scheme == scheme):
                kept[cell.key] = found[cell.matrix.name]
                self.context.cells.put_cell(cell.key, kept[cell.key])
        return {cell.key for cell in missing}

    def _shares(self, scheme: Scheme) -> Steps[Found]:
        weights = yield from within(self._quantize(scheme, alone=False), 0.0, 0.1)
        dense, found = {name: held.dequantize(torch.float32) for name, held in weights.items()}, {}

        def consume(matrix: Matrix, stats: WeightStatistics) -> None:
            if self.kind == "joint-path":
                value = float(stats.get("path_signed").double().sum())
            else:
                step = dense[matrix.name].double() - read_weight(self.loaded.model, matrix).double()
                value = float(((stats.get("grad").double() + stats.get("hessian_step").double() / 2) * step).sum())
            found[matrix.name] = {"stored_bits": weights[matrix.name].stored_bits, "loss": value}

        needs = NEEDS[self.kind]
        asked = {"needs": needs, "weights": dense, "nodes": nodes_of(scheme.bits, self.nodes), "rule": "gauss"}
        steps = gradient_sweep(self.loaded, self.windows, **asked, consume=consume)
        yield from within(steps, 0.1, 1.0)
        return found

    def _output_errors(self, scheme: Scheme) -> Steps[Found]:
        if self._statistics is None:
            steps = collect(self.loaded, self.windows, needs={"gram"}, folder=self.context.statistics)
            self._statistics = yield from within(steps, 0.0, 0.5)
        weights, found = (yield from within(self._quantize(scheme, alone=True), 0.5, 0.8)), {}
        let_go(self.loaded.model)  # products with a Gram matrix take as much as a block
        for place, matrix in enumerate(self.matrices):
            yield Progress(0.8 + 0.2 * place / len(self.matrices), 1.0, f"{scheme.label}: {matrix.name}")
            held, weight = weights[matrix.name], read_weight(self.loaded.model, matrix)
            error = output_error_from_gram(weight, held.dequantize(torch.float32), self._statistics.gram_of(matrix))
            found[matrix.name] = {"stored_bits": held.stored_bits, "output": error}
        return found

    def _quantize(self, scheme: Scheme, *, alone: bool) -> Steps[Mapping[str, QuantizedWeight]]:
        """All matrices under a scheme: fed by the full model when each is looked at alone, by the quantized else."""
        assignment = {matrix.name: scheme for matrix in self.matrices}
        steps = quantize_assignment(self.loaded, assignment, self.windows, self.context, isolated=alone)
        return (yield from steps).weights
