"""Which groups of columns get one bit more and which one less: SliM-LLM's bit search (arXiv 2405.14917).

The i groups of the least salience get N - 1 bits, the i of the most N + 1, all others N, so the mean is N whatever i
is. The search looks for the i whose rounded weight keeps the outputs of a sample of rows best. The released code
quantizes the matrix and multiplies all rows by it afresh for every i; from one i to the next only two groups change,
so here their change alone is added to the outputs: all candidates cost little more than one product.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

import lowbit

Objective = Literal["kl", "kl_reversed", "mse"]

CHUNK = 2**18
"""Outputs that are compared at a time, so that they stay in a core's cache."""


def search_widths(
    weight: Float[Tensor, "out in"],
    scores: Float[Tensor, " group"],
    rows: Float[Tensor, "rows in"],
    *,
    bits: int,
    group_size: int,
    symmetric: bool,
    objective: Objective,
) -> tuple[int, ...]:
    """Bits of each group; the fewest changed groups among equally good choices, so uniform widths if nothing is better.

    Args:
        weight: full weight, float32.
        scores: salience of each group.
        rows: sample of the inputs, float32.
        bits: N.
        group_size: columns of a group; the last may be shorter.
        symmetric: no zero points.
        objective: see `divergence`.
    """
    order = scores.argsort(stable=True).tolist()
    values = {width: rounded(weight, width, group_size, symmetric) for width in (bits - 1, bits, bits + 1)}
    wanted, outputs = _prepared(rows @ weight.T, objective), rows @ values[bits].T
    least, best = _distance(outputs, wanted, objective), 0
    for count, (low, high) in enumerate(zip(order[: len(order) // 2], reversed(order), strict=False), start=1):
        for group, width in ((low, bits - 1), (high, bits + 1)):
            columns = slice(group * group_size, (group + 1) * group_size)
            outputs.addmm_(rows[:, columns], (values[width][:, columns] - values[bits][:, columns]).T)
        found = _distance(outputs, wanted, objective)
        if found < least:
            least, best = found, count
    return chosen_widths(order, bits, best)


def chosen_widths(order: list[int], bits: int, count: int) -> tuple[int, ...]:
    """Bits of each group when the first `count` in the order have one bit less and the last `count` one more."""
    widths = [bits] * len(order)
    for low, high in zip(order[:count], reversed(order), strict=False):
        widths[low], widths[high] = bits - 1, bits + 1
    return tuple(widths)


def rounded(weight: Float[Tensor, "out in"], bits: int, group_size: int, symmetric: bool) -> Float[Tensor, "out in"]:
    """Round to nearest; one bit is a sign and the mean size of the group."""
    if bits == 1:
        return lowbit.dequantize(lowbit.binarize(weight, group_size=group_size))
    return lowbit.requantize(weight, bits=bits, group_size=group_size, symmetric=symmetric)[0]


def divergence(outputs: Float[Tensor, "rows out"], reference: Float[Tensor, "rows out"], objective: Objective) -> float:
    """How far outputs are from a reference, mean over rows.

    With P and Q the softmax over the features of reference and outputs: `kl` is KL(Q || P), as the released code
    computes it, `kl_reversed` KL(P || Q), as the paper prints it. `mse` is the squared distance.
    """
    return _distance(outputs, _prepared(reference, objective), objective)


def _prepared(reference: Float[Tensor, "rows out"], objective: Objective) -> Float[Tensor, "rows out"]:
    """What every candidate is compared with, computed once."""
    return reference if objective == "mse" else reference.log_softmax(1)


def _distance(outputs: Float[Tensor, "rows out"], wanted: Float[Tensor, "rows out"], objective: Objective) -> float:
    """`divergence` from a prepared reference."""
    step = max(1, CHUNK // outputs.shape[1])
    pairs = zip(outputs.split(step), wanted.split(step), strict=True)
    return sum(_summed(found, part, objective) for found, part in pairs) / max(1, len(outputs))


def _summed(found: Float[Tensor, "rows out"], wanted: Float[Tensor, "rows out"], objective: Objective) -> float:
    """The sum over rows."""
    if objective == "mse":
        return float((found - wanted).square_().sum())
    log_found = found.log_softmax(1)
    if objective == "kl":
        return float(log_found.sub_(wanted).mul_(found.softmax(1)).sum())
    return float((wanted - log_found).mul_(wanted.exp()).sum())


def group_sums(scores: Float[Tensor, "out in"], group_size: int) -> Float[Tensor, " group"]:
    """Scores summed over all rows and the columns of each group."""
    by_column = scores.double().sum(0)
    group: Int64[Tensor, " in"] = torch.arange(len(by_column), device=scores.device) // group_size
    return by_column.new_zeros(int(group[-1]) + 1).index_add_(0, group, by_column)
