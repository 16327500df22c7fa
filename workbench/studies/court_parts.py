"""The court's measured rises and its longest predictions as parts that others can make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.texts import Windows
from workbench.progress import Progress, Steps, within
from workbench.scheme import Scheme
from workbench.studies.choice import find_matrices, quantize_assignment
from workbench.studies.context import Context
from workbench.studies.parts import Bench, Part

Dense = Mapping[str, Tensor]


@dataclass(eq=False)
class Weights:
    """Dense quantized weights by scheme, each matrix fed by the full model; a scheme is quantized when it is needed."""

    loaded: LoadedModel
    seen: Windows
    context: Context
    _held: dict[str, Dense] = field(default_factory=dict)

    def of(self, scheme: Scheme) -> Steps[Dense]:
        """All matrices under a scheme."""
        if scheme.label not in self._held:
            assignment = {matrix.name: scheme for matrix in find_matrices(self.loaded)}
            steps = quantize_assignment(self.loaded, assignment, self.seen, self.context, isolated=True)
            self._held[scheme.label] = (yield from steps).dense()
        return self._held[scheme.label]


@dataclass(frozen=True, eq=False)
class RiseWork:
    """Measured rises; a part is asked for as a key, a matrix (None for all) and a scheme.

    Attributes:
        windows: the text that measures.
        seen: the text that feeds quantizers.
    """

    windows: Windows
    seen: Windows

    def open(self, loaded: LoadedModel, context: Context) -> Steps[Bench]:
        """The full model's run over the text, and quantized weights."""
        from workbench.studies.court_truth import rise
        from workbench.studies.reference import reference

        full = yield from reference(loaded, self.windows)
        weights = Weights(loaded, self.seen, context)

        def make(asks: Sequence[tuple[str, Matrix | None, Scheme]]) -> Steps[None]:
            for place, (key, matrix, scheme) in enumerate(asks):
                dense = yield from weights.of(scheme)
                subset = dense if matrix is None else {matrix.name: dense[matrix.name]}
                yield from within(rise(full, subset, key, scheme.label, context), place, place + 1, len(asks))

        return make


@dataclass(frozen=True, eq=False)
class PathWork:
    """Predictions from gradients; a part is asked for as a key, a matrix (None for the joint path) and a scheme.

    Attributes:
        seen: the calibration text.
    """

    seen: Windows

    def open(self, loaded: LoadedModel, context: Context) -> Steps[Bench]:
        """Quantized weights."""
        from workbench.studies.court_predictions import alone, curved

        yield Progress(0, 1, "making ready")
        weights = Weights(loaded, self.seen, context)

        def make(asks: Sequence[tuple[str, Matrix | None, Scheme]]) -> Steps[None]:
            for key, matrix, scheme in asks:
                dense = yield from weights.of(scheme)
                steps = (
                    curved(loaded, self.seen, dense)
                    if matrix is None
                    else alone(loaded, self.seen, matrix, dense, scheme.label)
                )
                context.cells.put_cell(key, (yield from steps))

        return make


def missing_parts(
    context: Context,
    matrices: Sequence[Matrix | None],
    schemes: Sequence[Scheme],
    key_of: Callable[[Matrix | None, Scheme], str],
) -> list[Part]:
    """A part for every matrix and scheme whose cell is not there; None stands for all matrices at once."""
    asks: list[tuple[str, Any, Scheme]] = [
        (key_of(matrix, scheme), matrix, scheme) for scheme in schemes for matrix in matrices
    ]
    known = context.cells.get_cells([key for key, _, _ in asks])
    return [
        Part((key,), (key, matrix, scheme), f"{scheme.label}: {'all matrices' if matrix is None else matrix.name}")
        for key, matrix, scheme in asks
        if key not in known
    ]
