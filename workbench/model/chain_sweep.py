"""A gradient sweep over a model that reads its blocks when they run: every pass part by part, what it finds on disk.

What is found for a matrix on the way back is kept in a file until all is there, because matrices are handed over in the
model's order. So memory holds one block's weights and gradients whatever the model's size, and each pass reads every
block twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from workbench.model.backward import GradientSums, oriented, values_at
from workbench.model.chain_gradients import chain_gradients
from workbench.model.chain_hessian import chain_product
from workbench.model.chain_memory import chains_of, room_for_pass
from workbench.model.data_free import chain_synflow
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.memory import return_freed_memory
from workbench.model.path import Point, Weights, end_of, finite, is_moved, moves, step_of
from workbench.model.spool import Spool
from workbench.model.streaming import stream_of
from workbench.model.texts import Windows
from workbench.model.weightstats import WeightStatistics
from workbench.progress import Progress, Steps, within

FIELDS = {
    "grad": ("grad",),
    "grad_sq": ("grad_sq",),
    "path": ("path_abs", "path_signed"),
    "hessian_step": ("hessian_step",),
    "hessian_gradient": ("hessian_gradient", "grad"),
    "synflow": ("synflow",),
}
"""What is kept of a matrix for a need."""

STEPPING = {"quantized", "path", "hessian_step"}
"""The needs that take a quantized weight."""


class ChainSweep:
    """All passes of one sweep.

    Args:
        loaded: the model; it reads its blocks when they run.
        windows: the text; None where no need reads one.
        needs: names from `weightstats.NEEDS`.
        weights: where the path ends.
        points: of the path (`path_points`).
        memory: bytes that the sweep may take; None for those that are free.

    Attributes:
        loss: mean loss of the model as it is, nats, once it was computed.
        path_losses: mean loss at the nodes, nats.
        passes: forward and backward passes over the whole text so far.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        windows: Windows | None,
        needs: set[str],
        weights: Weights,
        points: Sequence[Point],
        memory: int | None,
    ) -> None:
        self.model, self.needs, self.weights, self.points = loaded.model, needs, weights, list(points)
        self.matrices = quantizable_matrices(loaded.model)
        self.ids = torch.zeros(1, 1, dtype=torch.int64) if windows is None else windows.ids
        self.windows, self._memory = 0 if windows is None else len(windows.ids), memory
        self.loss: float | None = None
        self.path_losses: tuple[float, ...] = ()
        self.passes = 0
        self._fields = tuple(dict.fromkeys(field for need in FIELDS if need in needs for field in FIELDS[need]))
        self._spool: Spool | None = None
        self._chains = chains_of(loaded.model, self.ids, needs)

    def open(self) -> Steps[bool]:
        """Make ready; returns whether the model can be worked through part by part."""
        opened = []
        for chain in self._chains.values():
            opened.append((yield from chain.open()))
        return all(opened)

    def run(self, consume: Callable[[Matrix, WeightStatistics], None]) -> Steps[int]:
        """Make all passes, then hand over every matrix; returns how many matrices the step changes.

        Raises:
            WorkbenchError: one block does not fit in the memory that there is, or what is kept on the disk.
        """
        with room_for_pass(list(self._chains.values()), self.matrices, self.needs, self._memory):
            self._spool = Spool(self.matrices, self._fields)
            tasks = self._tasks()
            for done, task in enumerate(tasks):
                yield from within(task(), 0.95 * done / len(tasks), 0.95 * (done + 1) / len(tasks))
            return (yield from within(self._hand_over(consume), 0.95, 1.0))

    def _hand_over(self, consume: Callable[[Matrix, WeightStatistics], None]) -> Steps[int]:
        """Matrix by matrix, nothing of the model held meanwhile: what is made of a large one takes several of it."""
        changed, stream = 0, stream_of(self.model)
        for done, matrix in enumerate(self.matrices):
            yield Progress(done, len(self.matrices), matrix.name)
            found = self._found(matrix)
            if STEPPING & self.needs:
                found.quantized = end_of(self.model, matrix, self.weights)
            changed += is_moved(self.model, matrix, self.weights)
            consume(matrix, found)
            del found
            if stream is not None:
                stream.forget()
            return_freed_memory()
        return changed

    def _found(self, matrix: Matrix) -> WeightStatistics:
        found = WeightStatistics(windows=self.windows, nodes=len(self.points) if "path" in self.needs else 0)
        for field in self._fields:
            if field != "grad" or field in self.needs:  # it may only have been wanted for H g
                setattr(found, field, oriented(self._held.get(field, matrix), matrix).contiguous())
        return found

    @property
    def _held(self) -> Spool:
        assert self._spool is not None
        return self._spool

    def _tasks(self) -> list[Callable[[], Steps[None]]]:
        first = [self._gradients] if {"grad", "grad_sq"} & set(self._fields) else []  # one pass gives both
        rest = {
            "path": self._path,
            "hessian_step": self._step_product,
            "hessian_gradient": self._gradient_product,
            "synflow": self._synflow,
        }
        return [*first, *(task for need, task in rest.items() if need in self.needs)]

    def _gradients(self) -> Steps[None]:
        squares = "grad_sq" in self.needs

        def finish(matrices: Sequence[Matrix], sums: GradientSums) -> None:
            for matrix in matrices:
                if "grad" in self._fields:
                    self._held.put("grad", matrix, sums.grad[matrix.name])
                if squares:
                    self._held.put("grad_sq", matrix, sums.grad_sq[matrix.name])

        mean, chain = "grad" in self._fields, self._chains[squares]
        steps = chain_gradients(chain, lambda _: {}, finish, "gradients", mean=mean, squares=squares)
        self.loss = finite((yield from steps))
        self.passes += 1

    def _path(self) -> Steps[None]:
        losses = []
        for node, point in enumerate(self.points):

            def values(matrices: Sequence[Matrix], place: float = point.place) -> dict[str, Tensor]:
                return values_at(self.model, matrices, self.weights, place)

            note = f"path, point {node + 1} of {len(self.points)}"
            walk = chain_gradients(self._chains[False], values, partial(self._add_node, point.weight), note)
            losses.append(finite((yield from within(walk, node, node + 1, len(self.points)))))
            self.passes += 1
        self.path_losses = tuple(losses)

    def _add_node(self, weight: float, matrices: Sequence[Matrix], sums: GradientSums) -> None:
        for matrix in matrices:
            product = sums.grad.pop(matrix.name).mul_(step_of(self.model, matrix, self.weights)).mul_(weight)
            self._held.add("path_signed", matrix, product)
            self._held.add("path_abs", matrix, product.abs_())

    def _step_product(self) -> Steps[None]:
        def direction(matrices: Sequence[Matrix]) -> dict[str, Tensor]:
            moved = [matrix for matrix in matrices if moves(self.weights, matrix.name)]
            return {matrix.name: step_of(self.model, matrix, self.weights) for matrix in moved}

        yield from self._product("hessian_step", direction, "Hessian times the quantization step")

    def _gradient_product(self) -> Steps[None]:
        def direction(matrices: Sequence[Matrix]) -> dict[str, Tensor]:
            return {matrix.name: self._held.get("grad", matrix) for matrix in matrices}

        yield from self._product("hessian_gradient", direction, "Hessian times the gradient")

    def _product(self, field: str, direction: Any, note: str) -> Steps[None]:
        def give(matrices: Sequence[Matrix], product: Mapping[str, Tensor]) -> None:
            for matrix in matrices:
                self._held.put(field, matrix, product[matrix.name])

        self.passes += 1
        yield from chain_product(self._chains[True], direction, give, note)

    def _synflow(self) -> Steps[None]:
        def give(matrix: Matrix, scores: Tensor) -> None:
            self._held.put("synflow", matrix, scores)

        yield from chain_synflow(self.model, give)
