"""AWQ: columns that large inputs meet are scaled up before rounding, so that they lose less, and down again behind."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Literal, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

import lowbit
from lowbit import contract
from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.model.block_task import BlockTask
from workbench.model.block_watch import batches_holding, call_of
from workbench.model.matrices import Matrix
from workbench.progress import Progress, Steps, within
from workbench.quantizers.arithmetic.awq_absorb import Absorber, find_absorber
from workbench.quantizers.arithmetic.awq_clip import GroupGrams, search_clip
from workbench.quantizers.arithmetic.awq_scales import RATIOS, Levels, ScaleSearch, search_linear, search_module
from workbench.quantizers.weight import AffineWeight, QuantizedWeight
from workbench.quantizers.weights.scaled import ScaledWeight
from workbench.registry import Range, quantizers

T = TypeVar("T")

UNCLIPPED = ("q_", "k_", "query", "key", "qkv", "c_attn")
"""Parts of the roles that are not clipped: whatever makes queries and keys."""


@quantizers.register(
    "awq",
    summary="Columns that meet large inputs are scaled up before rounding, outlying weights clipped where that helps.",
    reference="Lin et al. 2024 (arXiv:2306.00978), mit-han-lab/llm-awq",
    needs=("mean_abs",),
    cost="21 * module forwards + 10 * out * in * group",
    note="Order as released: all scales of a block, on inputs of the full model, then clipping, then rounding. Scales "
    "are judged by the output of the module that holds all readers of an input (attention, MLP), run on `sample` "
    "tokens in whole batches of windows, where the code runs all; a matrix that reads alone is judged by its own "
    "output over all tokens, through their Gram matrix and without a forward, more than three times as fast. A "
    "forward of attention or MLP is bound by its matrix products, so there the search costs what the published "
    "one costs a token. `endpoint` tries the exponent 1 too, which the code never does. What can absorb the "
    "scales (a norm, rows of an earlier matrix) is found by trying; where nothing can (o_proj with grouped "
    "queries, fc2 behind a GELU) the code leaves a matrix unscaled, and ours keeps its scales as 16 bits a column "
    "and counts them; `scales=stored` keeps all of them so. Not clipped, as released: matrices whose name says "
    "query or key, whole qkv matrices among them. Clipping sees all tokens, where the code takes about 512. "
    "Mended: zero lies on every grid, symmetric grids work, clipping works with any number of tokens and rows and "
    "on whole rows.",
    scope="block",
    block_copies=4,
    formula=r"\hat W = Q\big(W \operatorname{diag}(s)\big) \operatorname{diag}(s)^{-1},\quad s_j = "
    r"\big(\tfrac1T \textstyle\sum_t |x_{tj}|\big)^{\alpha},\quad \alpha^* = \arg\min_\alpha \lVert f_{\hat W}(X) - "
    r"f_W(X) \rVert^2",
    ours="The exponent 1 as the last candidate, scales kept with the columns where nothing absorbs them, and the "
    "search through the Gram matrix, which gives the losses of running the layer.",
)
def awq(
    task: BlockTask,
    stats: None = None,
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    scales: Literal["absorbed", "stored"] = "absorbed",
    endpoint: bool = True,
    clip: bool = True,
    sample: Annotated[int, Range(64, 65536)] = 2048,
) -> Steps[dict[str, QuantizedWeight]]:
    """Scale, clip and round the matrices of a block.

    Args:
        task: the block; matrices that are not in it stay as they are and keep their inputs as they are.
        stats: not looked at, the block's own are collected.
        bits: width of a code.
        group_size: columns that share a scale.
        symmetric: no zero points.
        scales: where column scales are kept; `absorbed` where something can absorb them.
        endpoint: whether the exponent 1 is tried.
        clip: whether groups are clipped.
        sample: tokens on which attention and MLP are run, rounded up to whole batches.

    Raises:
        WorkbenchError: a width or group size that no kernel has, or a weight with NaN, infinity or values beyond fp16's
            reach.
    """
    levels = Levels(bits, group_size, symmetric)
    ratios = (*RATIOS, 1.0) if endpoint else RATIOS
    try:
        contract.check_grid_options(bits, group_size)
        for matrix in task.matrices:
            check_finite(task.weights[matrix.name], f"the weight of {matrix.name}")
        plan = _Plan(task, levels, ratios, scales == "absorbed", clip, sample)
        return (yield from plan.steps())
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None


@dataclass(frozen=True, eq=False)
class SiteScales:
    """What was found for one site: the search, what absorbs its scales, and the Gram blocks that clipping needs."""

    search: ScaleSearch
    absorber: Absorber | None
    grams: GroupGrams | None


@dataclass(frozen=True, eq=False)
class _Plan:
    task: BlockTask
    levels: Levels
    ratios: tuple[float, ...]
    absorbs: bool
    clips: bool
    sample: int

    def steps(self) -> Steps[dict[str, QuantizedWeight]]:
        sites, matrices = list(self.task.sites), self.task.matrices
        found: dict[str, SiteScales] = {}
        for done, site in enumerate(sites):
            found[site] = yield from within(self._site(site), 0.8 * done / len(sites), 0.8 * (done + 1) / len(sites))
        rows = {
            one.absorber.matrix.name: one.absorber.rows(one.search.scale)
            for one in found.values()
            if one.absorber is not None and one.absorber.matrix is not None and one.search.ratio
        }
        held: dict[str, QuantizedWeight] = {}
        for done, matrix in enumerate(matrices):
            share = 0.2 / len(matrices)
            steps = self._quantize(matrix, found[matrix.site], rows.get(matrix.name))
            held[matrix.name] = yield from within(steps, 0.8 + share * done, 0.8 + share * (done + 1))
        return held

    def _site(self, site: str) -> Steps[SiteScales]:
        alone = sum(matrix.site == site for matrix in self.task.block.matrices) == 1
        clipped = self.clips and any(_is_clipped(matrix) for matrix in self.task.sites[site])
        needs = ("gram",) if alone or clipped else ("mean_abs",)
        stats = yield from within(self.task.statistics(site, needs), 0.0, 0.2)
        if alone:
            assert stats.gram is not None
            weight = self.task.weights[self.task.sites[site][0].name]
            steps = search_linear(weight, stats.mean_abs, stats.gram, self.levels, self.ratios)
        else:
            steps = self._search_module(site, stats.mean_abs)
        search = yield from within(_named(steps, f"scales of {site}"), 0.2, 0.9)
        grams = GroupGrams.of(stats.gram, self.levels.group_size) if clipped and stats.gram is not None else None
        absorber = None
        if self.absorbs and search.ratio:
            absorber = yield from within(find_absorber(self.task, site), 0.9, 1.0)
        return SiteScales(search, absorber, grams)

    def _search_module(self, site: str, mean_abs: Float[Tensor, " in"]) -> Steps[ScaleSearch]:
        path = inspected_module([one.module for one in self.task.block.matrices if one.site == site])
        while isinstance(self.task.walk.model.get_submodule(path), nn.ModuleList):  # a list is never called
            path = path.rpartition(".")[0]
        calls = [call_of(self.task, batch, path) for batch in range(batches_holding(self.task, self.sample))]
        readers = [matrix.name for matrix in self.task.sites[site]]
        return (yield from search_module(self.task, path, readers, calls, mean_abs, self.levels, self.ratios))

    def _quantize(self, matrix: Matrix, site: SiteScales, rows: Tensor | None) -> Steps[QuantizedWeight]:
        weight, scale = self.task.weights[matrix.name], site.search.scale
        if rows is not None:
            weight = weight / rows[:, None]
        weight = (weight * scale).contiguous()
        if site.grams is not None and self.clips and _is_clipped(matrix):
            steps = search_clip(weight, site.grams.divided(scale), self.levels)
            weight = yield from _named(steps, f"clipping {matrix.name}")
        dense = AffineWeight(lowbit.quantize(weight, **self.levels._asdict()))
        columns = scale.half() if site.search.ratio else None
        if columns is None and rows is None:
            return dense
        return ScaledWeight(dense, columns, None if rows is None else rows.half(), site.absorber is not None)


def inspected_module(paths: list[str]) -> str:
    """Path of the innermost module that holds all of the modules, which for a single one is that module."""
    steps = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(step[0] for step in takewhile(lambda step: len(set(step)) == 1, steps))


def _is_clipped(matrix: Matrix) -> bool:
    return not any(part in matrix.role for part in UNCLIPPED)


def _named(steps: Steps[T], note: str) -> Steps[T]:
    """The same progress under a note."""
    try:
        while True:
            here = next(steps)
            yield Progress(here.done, here.total, note)
    except StopIteration as finished:
        return finished.value
    finally:
        steps.close()
