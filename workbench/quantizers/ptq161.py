"""PTQ1.61: a fifth of the columns in 4 bits, signs for all other weights, and scales learned block by block."""

from __future__ import annotations

from typing import Annotated, Literal

from jaxtyping import Bool
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.block_task import BlockTask
from workbench.model.block_watch import batches_holding
from workbench.ordering import topk_mask
from workbench.progress import Steps, within
from workbench.quantizers.arithmetic.ptq161_learning import BlockLoss, LowRank, Rates, learn_scales, preprocess
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.salient_and_binary import lay_out
from workbench.registry import Range, quantizers


@quantizers.register(
    "ptq161",
    summary="A fifth of the columns in 4 bits, one sign for every other weight, scales learned block by block.",
    reference="PTQ1.61 (arXiv:2502.13179), zjq0455/PTQ1.61",
    needs=("max_abs",),
    cost="epochs * (block forward + backward)",
    note="As released: `mean=code` takes signs around each row's mean, the paper's equation 9 (`mean=none`) around "
    "zero; `grid=row` spreads the 4-bit grid over the whole row, `grid=salient` (ours) over the salient columns "
    "alone, which rounds them finer. The paper learns on 128 windows of 2048 tokens, one a step; ours on the "
    "calibration text, at most `sample` tokens of it, a batch of up to 2048 tokens a step, so a short text makes "
    "few steps. Ours keeps the scales with the smallest loss on the calibration text, the code those of the last "
    "step. `preprocess_steps` above 0 is a block-wise preprocessing of our own: low-rank updates with which the "
    "quantized block comes closer to the full one, about one forward, one backward and one rounding of the block "
    "a step, each block anew (its notes say how many seconds); the paper trains LoRA on the whole model's "
    "language loss for 20,000 steps on RedPajama, which is not done here, and without which its LLaMA-7B stands "
    "at 20.9 instead of 12.5. Mended: an exact count of salient columns (the code takes one more, and all ties), "
    "the sign of 0 is +1, zeros count in the means.",
    scope="block",
    block_copies=8,
    fixed_width=True,
    fixed_group=-1,
    asymmetric_only=True,
    formula=r"\hat W = (r_1 r_2^\top) \circ \big(\alpha \operatorname{sign}(W - \mu) + \mu\big),\quad "
    r"\text{4 bits where } \max_t |x_{tj}| \text{ is among the largest } 20\,\%",
    ours="The kept best scales, the grid over salient columns alone, and the block-wise preprocessing.",
)
def ptq161(
    task: BlockTask,
    stats: None = None,
    *,
    group_size: int = -1,
    symmetric: bool = False,
    salient: Annotated[float, Range(0.0, 0.5)] = 0.2,
    mean: Literal["code", "none"] = "code",
    grid: Literal["row", "salient"] = "row",
    learn: bool = True,
    epochs: Annotated[int, Range(1, 200)] = 20,
    rate_alpha: Annotated[float, Range(0.0, 0.1)] = 5e-4,
    rate_scale: Annotated[float, Range(0.0, 0.1)] = 1e-3,
    cosine: bool = True,
    sample: Annotated[int, Range(64, 1048576)] = 262144,
    preprocess_steps: Annotated[int, Range(0, 20000)] = 0,
    preprocess_rank: Annotated[int, Range(1, 256)] = 64,
    preprocess_rate: Annotated[float, Range(0.0, 0.1)] = 1e-3,
    seed: Annotated[int, Range(0, 2147483647)] = 0,
) -> Steps[dict[str, QuantizedWeight]]:
    """Choose salient columns, lay the matrices of a block out and learn their scales.

    Args:
        task: the block; matrices that are not in it stay as they are.
        stats: not looked at, the block's own are collected.
        group_size: the method's own, -1, as its 4-bit grid is never `symmetric`.
        salient: part of the columns that get 4 bits: those whose largest |x| in the full model is largest.
        mean: `code` as released, `none` as printed.
        grid: what the 4-bit grid of a row reaches over.
        learn: whether scales are learned; otherwise they stay as they are laid out.
        epochs: passes over the calibration text.
        rate_alpha: learning rate of the magnitudes; `rate_scale` is that of r1 and r2.
        cosine: whether the loss has its cosines.
        sample: most tokens to learn from, in whole batches.
        preprocess_steps: steps of the block-wise preprocessing; 0 leaves it out.
        preprocess_rank: rank of its updates.
        preprocess_rate: its learning rate.
        seed: of its random start.

    Raises:
        WorkbenchError: a weight with NaN, infinity or values beyond fp16's reach.
    """
    masks = yield from within(_salient_columns(task, salient), 0.0, 0.1)

    def lay(name: str, weight: Tensor):
        return lay_out(weight, masks[name], centred=mean == "code", grid=grid)

    weights = {matrix.name: task.weights[matrix.name] for matrix in task.matrices}
    loss = BlockLoss(task, batches_holding(task, sample), cosine)
    if learn or preprocess_steps:
        yield from within(loss.open(), 0.1, 0.15)
    if preprocess_steps:
        settings = LowRank(preprocess_steps, preprocess_rank, preprocess_rate, seed)
        weights = yield from within(preprocess(loss, lay, settings), 0.15, 0.5)
    laid = {name: lay(name, weight) for name, weight in weights.items()}
    scales = {name: one.start for name, one in laid.items()}
    if learn:
        steps = learn_scales(loss, laid, Rates(epochs, rate_alpha, rate_scale))
        scales = yield from within(steps, 0.5 if preprocess_steps else 0.15, 1.0)
    return {name: laid[name].hold(scales[name]) for name in laid}


def _salient_columns(task: BlockTask, share: float) -> Steps[dict[str, Bool[Tensor, " in"]]]:
    """Matrix -> the columns with the largest inputs; matrices that read one site share them."""
    for matrix in task.matrices:
        check_finite(task.weights[matrix.name], f"the weight of {matrix.name}")
    masks: dict[str, Tensor] = {}
    for done, (site, readers) in enumerate(task.sites.items()):
        stats = yield from within(task.statistics(site, ("max_abs",)), done, done + 1, len(task.sites))
        mask = topk_mask(stats.max_abs, round(share * len(stats.max_abs)))
        masks |= {matrix.name: mask for matrix in readers}
    return masks
