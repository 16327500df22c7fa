"""Binarization with the magnitudes that lose least of the layer's output, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

import lowbit
from lowbit import pack
from workbench.errors import WorkbenchError
from workbench.inverse_factor import gram_of
from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.quantizers.arithmetic.binarization import to_fp16
from workbench.quantizers.weights.binary import CentredBinaryWeight
from workbench.registry import quantizers

NAME = "output_optimal_binary"
SMALLEST_SHARE = 1e-6
"""Directions whose energy is below this share of the largest are rounding of the Gram, and are left alone."""
CHUNK = 2**22
"""Numbers of the small systems that are held at once."""


@quantizers.register(
    NAME,
    summary="One sign a weight and one magnitude a row or group, chosen for the least error of the layer's output.",
    reference="Ours; magnitude 'mean' is XNOR-Net (arXiv:1603.05279) and BWN",
    needs=("gram",),
    cost="out * in^2",
    note="Magnitude 'mean' is plain row binarization, mean |w|, and looks at no inputs. With several groups a row the "
    "magnitudes of a row are solved for together. Signs stay those of the weights: the best for these signs, not "
    "over all signs. Centred adds a mean to each group, which 'output' solves for as well.",
    scope="matrix",
    fixed_width=True,
    asymmetric_only=True,
    formula=r"\hat w = B\alpha, \qquad B^\top H B\, \alpha = B^\top H w, \qquad "
    r"\text{one group: } \alpha = \frac{b^\top H w}{b^\top H b}, \; b = \mathrm{sign}(w)",
    ours="The closed form for one magnitude and the system for several; where the inputs say nothing about a magnitude "
    "it stays mean |w|.",
)
def output_optimal_binary(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None = None,
    *,
    group_size: int = -1,
    symmetric: bool = False,
    magnitude: Literal["output", "mean"] = "output",
    centred: bool = False,
) -> CentredBinaryWeight:
    """Weights w become m + a sign(w - m), with a (and m, which is 0 unless centred) per row and group.

    The signs are fixed first, about the mean of the group. What is minimised then is 1/2 (w - q) H (w - q)^T of each
    row, with H = 2 G undamped. A magnitude that comes out negative is stored positive with its signs turned.

    Args:
        weight: the matrix.
        stats: of its inputs; the Gram is read unless the magnitude is `mean`.
        group_size: columns that share a magnitude, the last group may be shorter; -1 is the whole row.
        symmetric: not looked at; there is no grid.
        magnitude: `output`, or `mean` for the least error of the weights.
        centred: each group has a mean as well.

    Raises:
        WorkbenchError: no Gram, a group size that no kernel has, a weight with NaN or infinity or beyond fp16.
    """
    check_finite(weight, "the weight")
    if magnitude == "output":
        check_finite(gram_of(stats, NAME), "the Gram matrix")
    if group_size != -1 and group_size < 1:
        raise WorkbenchError(f"group size has value {group_size!r}; choose a positive number of columns, or -1")
    held = weight.double()
    rows, columns = held.shape
    size = columns if group_size == -1 else min(group_size, columns)
    counts = _group_sums(torch.ones_like(held[:1]), size)
    mean = _group_sums(held, size) / counts * centred
    rest = held - _spread(mean, size, columns)
    signs = torch.where(rest >= 0, 1.0, -1.0).double()
    alpha = _group_sums(rest.abs(), size) / counts
    if magnitude == "output":
        basis = (signs, torch.ones_like(signs)) if centred else (signs,)
        alpha, *means = _refit(held, basis, (alpha, mean)[: len(basis)], gram_of(stats, NAME).double(), size)
        mean = means[0] if means else mean
    positive = (signs > 0) ^ (_spread(alpha, size, columns) < 0)
    stored = to_fp16(alpha.abs(), "magnitude").unsqueeze(2)
    plane = pack.pack(positive.to(torch.uint8), 1, group_size)[0]
    binary = lowbit.BinaryWeight((plane,), stored, (rows, columns), group_size, "plain")
    return CentredBinaryWeight(binary, to_fp16(mean, "mean") if centred else None)


def _refit(
    weight: Float64[Tensor, "out in"],
    basis: tuple[Float64[Tensor, "out in"], ...],
    start: tuple[Float64[Tensor, "out group"], ...],
    gram: Float64[Tensor, "in in"],
    size: int,
) -> tuple[Float64[Tensor, "out group"], ...]:
    """Factors of the basis, one a row and group, with the least output error; `start` where the inputs do not care."""
    unknowns = len(basis) * start[0].shape[1]
    step = max(1, CHUNK // (unknowns * unknowns + weight.shape[1]))
    found: list[Tensor] = []
    for first in range(0, len(weight), step):
        rows = slice(first, first + step)
        vectors = [vector[rows] for vector in basis]
        factors = [factor[rows] for factor in start]
        lost = weight[rows] - sum(
            vector * _spread(factor, size, weight.shape[1]) for vector, factor in zip(vectors, factors, strict=True)
        )
        side = torch.cat([_group_sums((lost @ gram) * vector, size) for vector in vectors], dim=1)
        system = torch.stack(list(_system_rows(vectors, gram, size)), dim=1)
        found.append(torch.cat(factors, dim=1) + _solve(system, side))
    return torch.cat(found).tensor_split(len(basis), dim=1)


def _system_rows(
    vectors: list[Float64[Tensor, "row in"]], gram: Float64[Tensor, "in in"], size: int
) -> Iterator[Float64[Tensor, "row unknown"]]:
    """b_g^T G b_h for each factor, with all others: rows of the small system of each row of the weight."""
    for vector in vectors:
        for start in range(0, gram.shape[0], size):
            moved = vector[:, start : start + size] @ gram[start : start + size]
            yield torch.cat([_group_sums(moved * other, size) for other in vectors], dim=1)


def _solve(
    system: Float64[Tensor, "row unknown unknown"], side: Float64[Tensor, "row unknown"]
) -> Float64[Tensor, "row unknown"]:
    """The smallest solution, once each unknown has its own energy for a unit."""
    energy = system.diagonal(dim1=1, dim2=2)
    unit = torch.where(energy > 0, energy, 1.0).rsqrt()
    scaled = unit.unsqueeze(2) * system * unit.unsqueeze(1)
    inverse = torch.linalg.pinv(scaled, rtol=SMALLEST_SHARE, hermitian=True)
    return unit * (inverse @ (unit * side).unsqueeze(2)).squeeze(2)


def _group_sums(numbers: Float64[Tensor, "row in"], size: int) -> Float64[Tensor, "row group"]:
    padded = torch.nn.functional.pad(numbers, (0, -numbers.shape[1] % size))
    return padded.unflatten(1, (-1, size)).sum(2)


def _spread(numbers: Float64[Tensor, "row group"], size: int, columns: int) -> Float64[Tensor, "row in"]:
    return numbers.repeat_interleave(size, dim=1)[:, :columns]
