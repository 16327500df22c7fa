"""Binary weights in plain torch: a sign a weight and one or two magnitudes a group.

The best magnitude m for fixed signs is a mean: sum h (w - m sign w)**2 is least at m = sum h |w| / sum h (XNOR-Net,
arXiv 1603.05279, with h = 1). Means are summed in float64 and rounded to fp16 once, so that the stored bits do not
depend on the order of summation; where nothing counts, a magnitude is 0. No mean of the weights themselves is taken
away first, unlike in PB-LLM and BiLLM, and sign(0) = +1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float16, Float32, Float64, Int64
from torch import Tensor

from lowbit import pack, torch_backend
from lowbit.contract import SCALE_MAXIMUM, LowbitError
from lowbit.parts import PLANES, BinaryKind, BinaryWeight
from lowbit.torch_backend import Block

Counts = Float64[Tensor, "*out group length"] | Float32[Tensor, "out group length"] | None
"""How much each weight of a block counts; None where all count the same."""
Mask = Float32[Tensor, "out group length"]
"""1 where something holds, else 0: on a CPU, torch works with these several times as fast as with booleans."""


class SplitSearch(NamedTuple):
    """A weight with two magnitudes a group, split at the best of some thresholds.

    Attributes:
        weight: of kind "split".
        best: place of the threshold among the shares that were tried.
        error: squared error of `weight`, weighted where h was given.
    """

    weight: BinaryWeight
    best: Int64[Tensor, "out group"]
    error: Float32[Tensor, "out group"]


def binarize(
    w: Float[Tensor, "out in"],
    group_size: int,
    kind: BinaryKind = "plain",
    h: Float32[Tensor, " in"] | None = None,
    keep: Bool[Tensor, "out in"] | None = None,
    share: Float32[Tensor, "out group"] | None = None,
) -> BinaryWeight:
    """Keep the signs and the best magnitudes of each group.

    Args:
        w: float32, float16 or bfloat16, of at most 65504 in size.
        group_size: columns that share magnitudes; -1 is the whole row.
        kind: `plain` has one magnitude; `residual` a second pair of sign and magnitude for what the first leaves
            (arXiv 2402.04291, its order-2 residual); `split` one for small and one for large weights.
        h: weight of each column; None counts all the same.
        keep: weights that are stored elsewhere and do not count for the means (the salient ones of PB-LLM, arXiv
            2310.00034); they have signs like all others.
        share: for `split` alone: weights of at most this share of the group's largest are the small ones.

    Raises:
        LowbitError: a weight that is not finite or too large.
    """
    check_reach(w)
    held = empty_binary(w, group_size, kind)
    for block in torch_backend.blocks(w, group_size):
        counts = _counts(block, h, keep)
        if kind == "split":
            assert share is not None  # the callers' to give, see above
            parts = _split_parts(block, counts, share[block.rows, block.run.groups])
        else:
            parts = _sign_parts(block, counts, PLANES[kind])
        for place, (bits, magnitude) in enumerate(parts):
            pack.pack_run(bits.to(torch.uint8), (held.planes[place][block.rows],), block.run, 1)
            held.magnitude[block.rows, block.run.groups, place] = magnitude
    return held


def dequantize(weight: BinaryWeight, out: Float[Tensor, "out in"]) -> None:
    """Write the values to `out`, rounded to its dtype."""
    for rows in torch_backend.row_chunks(*weight.shape, out.device):
        for run in pack.runs(weight.shape[1], weight.group_size):
            bits = [pack.unpack_run((plane[rows],), run, 1).float() for plane in weight.planes]
            sizes = [size.unsqueeze(-1) for size in weight.magnitude[rows, run.groups].float().unbind(-1)]
            if weight.kind == "split":
                values = _signed(bits[0], _either(bits[1], sizes[1], sizes[0]))
            else:
                values = _signed(bits[0], sizes[0])
            if weight.kind == "residual":
                values += _signed(bits[1], sizes[1])
            out[rows, run.columns] = values.flatten(1)


def split_errors(
    w: Float[Tensor, "out in"], group_size: int, h: Float32[Tensor, " in"] | None, shares: Float32[Tensor, " share"]
) -> Float32[Tensor, "share out group"]:
    """Squared error of each group when it is split at each of some shares of its largest weight."""
    check_reach(w)
    cells = torch.empty((len(shares), *torch_backend.grid_shape(w, group_size)), dtype=torch.float32, device=w.device)
    for block in torch_backend.blocks(w, group_size):
        size, counts = block.values.abs(), _counts(block, h, None)
        largest = size.amax(-1)
        for place, share in enumerate(shares):
            large = _holds(torch.gt, size, (largest * share).unsqueeze(-1))
            low, high = (mean.float().unsqueeze(-1) for mean in _split_means(size, large, counts))
            square = torch.sub(size, _either(large, high, low), out=block.spare).square_()
            if h is not None:
                square.mul_(torch_backend.by_group(h, block.run))
            cells[place, block.rows, block.run.groups] = square.sum(-1)
    return cells


def split_search(
    w: Float[Tensor, "out in"],
    group_size: int,
    h: Float32[Tensor, " in"] | None,
    shares: Float32[Tensor, " share"],
    across_rows: bool = False,
) -> SplitSearch:
    """Split each group at the best of some shares of its largest weight.

    Two magnitudes for the bell of small weights and its tails are from BiLLM (arXiv 2402.04291), which picks one
    threshold for a block of columns over all rows. Here each group of each row has its own, which costs no storage:
    one bit a weight says which magnitude it has. `across_rows` picks one share for all rows of a group.

    Args:
        w: as in `binarize`.
        group_size: as in `binarize`.
        h: as in `binarize`.
        shares: the thresholds to try, each between 0 and 1.
        across_rows: one share for all rows of a group.

    Raises:
        LowbitError: as `binarize`.
    """
    best, error = best_share(split_errors(w, group_size, h, shares), across_rows)
    return SplitSearch(binarize(w, group_size, "split", h, share=shares[best]), best, error)


def best_share(
    cells: Float32[Tensor, "share out group"], across_rows: bool
) -> tuple[Int64[Tensor, "out group"], Float32[Tensor, "out group"]]:
    """Place and error of the best share of each group, the first of equals."""
    if across_rows:
        best = cells.sum(1, dtype=torch.float64).argmin(0).expand(cells.shape[1:]).contiguous()
    else:
        best = cells.argmin(0)
    return best, cells.gather(0, best.unsqueeze(0)).squeeze(0)


def empty_binary(w: Float[Tensor, "out in"], group_size: int, kind: BinaryKind) -> BinaryWeight:
    """A binary weight for `w`, not yet filled."""
    rows, columns = w.shape
    planes = tuple(pack.empty_planes(rows, columns, 1, group_size, w.device)[0] for _ in range(PLANES[kind]))
    shape = (*torch_backend.grid_shape(w, group_size), PLANES[kind])
    magnitude = torch.empty(shape, dtype=torch.float16, device=w.device)
    return BinaryWeight(planes, magnitude, (rows, columns), group_size, kind)


def check_reach(w: Float[Tensor, "out in"]) -> None:
    """Refuse a weight that is not finite, or that fp16 magnitudes do not reach."""
    lo, hi = torch.aminmax(w)
    if torch.maximum(-lo, hi).item() <= SCALE_MAXIMUM:
        return
    row, column = (int(index) for index in (~(w.float().abs() <= SCALE_MAXIMUM)).nonzero()[0])
    value = w[row, column].item()
    where = f"row {row}, column {column}"
    if not -torch.inf < value < torch.inf:
        raise LowbitError(f"the weight holds {value} in {where}")
    raise LowbitError(f"the weight holds {value:.6g} in {where}, beyond {SCALE_MAXIMUM:g}, the maximum of fp16")


def _counts(block: Block, h: Float32[Tensor, " in"] | None, keep: Bool[Tensor, "out in"] | None) -> Counts:
    counts = None if h is None else torch_backend.by_group(h, block.run).double()
    if keep is None:
        return counts
    run = block.run
    rest = (~keep[block.rows, run.columns]).unflatten(1, (run.count, run.length)).float()
    return rest if counts is None else rest * counts


def _mean(size: Float32[Tensor, "out group length"], counts: Counts) -> Float16[Tensor, "out group"]:
    """Mean of the weights that count, rounded once; 0 where none does."""
    if counts is None:
        return size.sum(-1, dtype=torch.float64).div_(size.shape[-1]).float().half()
    total = counts.sum(-1, dtype=torch.float64)
    mean = (size * counts).sum(-1, dtype=torch.float64).div_(torch.where(total > 0, total, 1.0))
    return mean.float().half()


def _sign_parts(block: Block, counts: Counts, planes: int) -> Iterator[tuple[Mask, Float16[Tensor, "out group"]]]:
    """Signs and magnitudes, each pair of what those before leave."""
    rest = block.values
    for _ in range(planes):
        positive, magnitude = _holds(torch.ge, rest, 0), _mean(torch.abs(rest, out=block.spare), counts)
        yield positive, magnitude
        rest = rest - _signed(positive, magnitude.float().unsqueeze(-1))


def _split_parts(
    block: Block, counts: Counts, share: Float32[Tensor, "out group"]
) -> Iterator[tuple[Mask, Float16[Tensor, "out group"]]]:
    """Signs and the magnitude of small weights; which are large, and the magnitude of those."""
    size = torch.abs(block.values, out=block.spare)
    large = _holds(torch.gt, size, (size.amax(-1) * share).unsqueeze(-1))
    small_mean, large_mean = _split_means(size, large, counts)
    yield _holds(torch.ge, block.values, 0), small_mean
    yield large, large_mean


def _split_means(
    size: Float32[Tensor, "out group length"], large: Mask, counts: Counts
) -> tuple[Float16[Tensor, "out group"], Float16[Tensor, "out group"]]:
    """Mean sizes of the small and of the large weights."""
    small, rest = (1 - large, large) if counts is None else (counts * (1 - large), counts * large)
    return _mean(size, small), _mean(size, rest)


def _holds(compare: Callable[..., Tensor], numbers: Tensor, bound: Tensor | float) -> Mask:
    return compare(numbers, bound, out=torch.empty_like(numbers))


def _either(mask: Mask, one: Tensor, other: Tensor) -> Float32[Tensor, "out group length"]:
    """One number where the mask is 1, the other where it is 0; exact, because one product of the two is 0."""
    return (mask * one).add_((1 - mask).mul_(other))


def _signed(positive: Mask, size: Float32[Tensor, "out group #length"]) -> Float32[Tensor, "out group length"]:
    return (2 * positive).sub_(1).mul_(size)
