"""What a gradient sweep does for one range of matrices: gradients, path, Hessian products, the data-free pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workbench.model.backward import batches_of, make_leaves, oriented, sum_gradients
from workbench.model.block_ranges import working_bytes
from workbench.model.chain_sweep import STEPPING
from workbench.model.data_free import synflow_scores
from workbench.model.hessian_product import hessian_product
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.path import Point, Weights, end_of, finite, moves, step_of, walk_path
from workbench.model.texts import Windows
from workbench.model.weightstats import WeightStatistics
from workbench.progress import Progress, Steps, within

Found = dict[str, WeightStatistics]


class RangeSweep:
    """Works through one range after the other, and adds up what there is to tell of it.

    Args:
        loaded: the model.
        windows: the text whose mean token loss is differentiated; None where no need reads a text.
        needs: names from `weightstats.NEEDS`.
        weights: where the path ends.
        points: of the path (`path_points`).
        matrices: all matrices of the model.

    Attributes:
        working: estimate in bytes of what is held whatever the range.
        loss: mean loss of the model as it is, nats, once it was computed.
        path_losses: mean loss at the nodes, nats.
        passes: forward and backward passes over the whole text so far.
        note: words on the range, for the progress.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        windows: Windows | None,
        needs: set[str],
        weights: Weights,
        points: Sequence[Point],
        matrices: list[Matrix],
    ) -> None:
        self.model, self.needs = loaded.model, needs
        self.weights, self.points, self.matrices = weights, list(points), matrices
        self.ids = torch.zeros(0, 2, dtype=torch.int64) if windows is None else windows.ids
        self.batches = batches_of(self.model, self.ids)
        self.working = working_bytes(self.model, matrices, max(one.numel() for one in self.batches), needs)
        self.loss: float | None = None
        self.path_losses: tuple[float, ...] = ()
        self.passes, self.note = 0, ""
        self._gradient: dict[str, Tensor] | None = None  # of all matrices, for H g

    def run(self, part: list[Matrix]) -> Steps[Found]:
        """All that is needed of one range, by matrix name."""
        tasks = [task for need, task in self._tasks().items() if need in self.needs]
        found = {matrix.name: WeightStatistics(windows=len(self.ids)) for matrix in part}
        for done, task in enumerate(tasks):
            yield from within(task(part, found), done, done + 1, len(tasks))
        if STEPPING & self.needs:
            for matrix in part:
                found[matrix.name].quantized = end_of(self.model, matrix, self.weights)
        return found

    def _tasks(self) -> dict[str, Callable[[list[Matrix], Found], Steps[None]]]:
        first = "grad" if "grad" in self.needs else "grad_sq"  # one pass gives both
        return {
            first: self._gradients,
            "path": self._path,
            "hessian_step": self._step_product,
            "hessian_gradient": self._gradient_product,
            "synflow": self._synflow,
        }

    def _gradients(self, part: list[Matrix], found: Found) -> Steps[None]:
        mean, squares = ("grad" in self.needs), ("grad_sq" in self.needs)
        batches = self._gradient_batches()
        values: dict[str, Tensor] = {}
        leaves = make_leaves(self.model, part, values)
        note = f"gradients of {self.note}"
        sums = yield from sum_gradients(self.model, values, leaves, batches, note, mean=mean, squares=squares)
        self.passes, self.loss = self.passes + 1, finite(sums.loss)
        for matrix in part:
            found[matrix.name].grad = _given(sums.grad.pop(matrix.name, None), matrix)
            found[matrix.name].grad_sq = _given(sums.grad_sq.pop(matrix.name, None), matrix)

    def _gradient_batches(self) -> list[Tensor]:
        """Single windows where their gradients are squared: the mean comes of the same pass."""
        return batches_of(self.model, self.ids, one_by_one=True) if "grad_sq" in self.needs else self.batches

    def _path(self, part: list[Matrix], found: Found) -> Steps[None]:
        walk = walk_path(self.model, self.matrices, part, self.weights, self.points, self.batches, self.note)
        sums = yield from walk
        self.passes, self.path_losses = self.passes + len(self.points), sums.losses
        for matrix in part:
            one = found[matrix.name]
            one.nodes = len(self.points)
            one.path_abs = _given(sums.size.pop(matrix.name), matrix)
            one.path_signed = _given(sums.signed.pop(matrix.name), matrix)

    def _step_product(self, part: list[Matrix], found: Found) -> Steps[None]:
        moved = [matrix for matrix in self.matrices if moves(self.weights, matrix.name)]
        steps = {matrix.name: step_of(self.model, matrix, self.weights) for matrix in moved}
        product = yield from self._product(part, steps, "Hessian times the quantization step")
        for matrix in part:
            found[matrix.name].hessian_step = _given(product.pop(matrix.name), matrix)

    def _gradient_product(self, part: list[Matrix], found: Found) -> Steps[None]:
        if self._gradient is None:
            values: dict[str, Tensor] = {}
            leaves = make_leaves(self.model, self.matrices, values)
            batches = self._gradient_batches()
            walk = sum_gradients(self.model, values, leaves, batches, "gradients of all matrices")
            sums = yield from within(walk, 0.0, 0.2)
            self.passes, self.loss, self._gradient = self.passes + 1, finite(sums.loss), sums.grad
        product = yield from within(self._product(part, self._gradient, "Hessian times the gradient"), 0.2, 1.0)
        for matrix in part:
            found[matrix.name].hessian_gradient = _given(product.pop(matrix.name), matrix)

    def _product(self, part: list[Matrix], direction: dict[str, Tensor], note: str) -> Steps[dict[str, Tensor]]:
        self.passes += 1
        batches = batches_of(self.model, self.ids, one_by_one=True)  # its graph is several times as large
        note = f"{note}, {self.note}"
        return (yield from hessian_product(self.model, self.matrices, part, direction, batches, note))

    def _synflow(self, part: list[Matrix], found: Found) -> Steps[None]:
        yield Progress(0, 1, f"data-free pass, {self.note}")
        scores = synflow_scores(self.model, part)
        for matrix in part:
            found[matrix.name].synflow = _given(scores.pop(matrix.name), matrix)


def _given(tensor: Tensor | None, matrix: Matrix) -> Tensor | None:
    """As it is handed over: `[out, in]`, on the CPU."""
    return None if tensor is None else oriented(tensor.detach(), matrix).contiguous().cpu()
