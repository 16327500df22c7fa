"""Where the reciprocals of a site's column scales can go without changing what the block computes.

Found by trying, not by the names of model families: the parameters of a norm, or the rows of an earlier matrix, are
multiplied by a different power of two a channel and the columns behind divided by it. Powers of two round nothing, so
where the scales can be absorbed the site's input changes by exactly those factors and the block's output not at all.
Llama's norms, v behind attention without grouped queries, up behind the gate and fc1 behind a ReLU pass; the gate
itself, and fc1 behind a GELU, do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model.block_task import BlockTask
from workbench.model.block_watch import Seen, modules_before, run_watched
from workbench.model.matrices import Matrix
from workbench.model.streaming import parameter_of
from workbench.progress import Progress, Steps

SHIFTS = (0.0, 1.0)
"""A norm multiplies by its weight, or by one plus its weight (Gemma)."""


@dataclass(frozen=True, eq=False)
class Absorber:
    """What takes up the reciprocals of column scales: a matrix in its last rows, or a norm.

    Attributes:
        matrix: the matrix in front, with its bias; None for a norm.
        norm: path of the norm; None for a matrix.
        shift: a norm multiplies by its weight plus this.
        bias: name of the bias that is multiplied too, if there is one.
    """

    matrix: Matrix | None
    norm: str | None
    shift: float
    bias: str | None

    def rows(self, scale: Float[Tensor, " in"]) -> Float[Tensor, " out"]:
        """The scale of each row of the matrix in front: ones, and in the last rows the column scales behind it."""
        assert self.matrix is not None
        return torch.cat([scale.new_ones(self.matrix.rows - len(scale)), scale])

    def folded(self, task: BlockTask, factor: Float[Tensor, " in"]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The matrix `[out, in]`, and the norm and biases, with a factor a channel multiplied in; by parameter name."""

        def find(name: str) -> Tensor:  # where the factor lies: task's weights do, whatever device the model is on
            return parameter_of(task.walk.model, name).to(factor.device)

        if self.matrix is not None:
            rows = self.rows(factor)
            weights = {self.matrix.name: task.weights[self.matrix.name] * rows[:, None]}
            return weights, {self.bias: find(self.bias) * rows} if self.bias else {}
        name = f"{self.norm}.weight"
        others = {name: (find(name) + self.shift) * factor - self.shift}
        return {}, others | ({self.bias: find(self.bias) * factor} if self.bias else {})


def find_absorber(task: BlockTask, site: str) -> Steps[Absorber | None]:
    """What can absorb the scales of a site; None when nothing can, or when a reader of the site is not in the task."""
    readers = task.sites[site]
    if len(readers) < sum(matrix.site == site for matrix in task.block.matrices):
        return None
    probe = _Probe(task, site, readers)
    for done, candidate in enumerate(found := probe.candidates()):
        yield Progress(done, len(found), f"looking for what can absorb the scales of {site}")
        if probe.passes(candidate):
            return candidate
    return None


@dataclass(eq=False)
class _Probe:
    """A batch of hidden states, what the block makes of it, and what the site is given."""

    task: BlockTask
    site: str
    readers: tuple[Matrix, ...]
    factor: Tensor = field(init=False)
    input: Tensor = field(init=False)
    output: Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        powers = torch.randint(-1, 3, (self.readers[0].columns,), generator=generator)
        self.batch = len(self.task.inputs()) - 1  # often the shortest
        self.factor = torch.exp2(powers.to(torch.float32)).to(self.task.inputs()[self.batch].device)
        seen: list[Tensor] = []
        output = run_watched(
            self.task, self.batch, self.site, lambda first, _: seen.append(first), self.task.weights, {}
        )
        assert output is not None
        self.input, self.output = seen[0], output

    def candidates(self) -> list[Absorber]:
        """Norms that feed the site, then matrices in front of it, the nearest first."""
        columns, found = len(self.factor), list[Absorber]()
        mine = {matrix.module: matrix for matrix in self.task.matrices if matrix not in self.readers}
        before = modules_before(self.task, self.batch, self.site)
        parameters = dict(self.task.walk.model.named_parameters(remove_duplicate=False))
        for one in reversed(before):
            weight, bias = parameters.get(f"{one.path}.weight"), f"{one.path}.bias"
            bias = bias if bias in parameters else None
            if one.feeds and weight is not None and tuple(weight.shape) == (columns,):
                found += [Absorber(None, one.path, shift, bias) for shift in SHIFTS]
            elif one.path in mine and mine[one.path].rows >= columns:
                found.append(Absorber(mine[one.path], None, 0.0, bias))
        return sorted(found, key=lambda one: one.norm is None)

    def passes(self, candidate: Absorber) -> bool:
        """Whether the site's input takes the factors and the block's output stays."""
        weights, others = candidate.folded(self.task, self.factor)
        columns = {one.name: weights.get(one.name, self.task.weights[one.name]) / self.factor for one in self.readers}
        output = self._run(dict(self.task.weights) | weights | columns, others)
        if output is None:
            return False
        hidden = self.task.inputs()[self.batch]
        branch = (self.output - hidden).abs().max() if hidden.shape == self.output.shape else 0.0
        return bool(((output - self.output).abs() <= 1e-5 * branch + 1e-6 * self.output.abs()).all())

    def _run(self, weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Tensor | None:
        """The block's output; None when the site's input is not what it has to be."""
        expected = self.input * self.factor.to(self.input.device)

        def compare(first: Tensor, _: object) -> None:
            if not torch.allclose(first, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max())):
                raise Seen

        return run_watched(self.task, self.batch, self.site, compare, weights, others)
