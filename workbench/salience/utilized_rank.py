"""Utilized rank: how many directions of its inputs and outputs a matrix really uses."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.registry import Range, salience


@salience.register(
    "utilized_rank",
    summary="Rank of the matrix between the directions that hold most of the energy of its inputs and of its outputs, "
    "as a share of its full rank.",
    reference="Garg et al. 2024, Revealing the Utilized Rank of Subspaces of Learning in Neural Networks, "
    "arXiv:2407.04797",
    needs=("gram",),
    cost="in^3 + out^3",
    note="Our threshold: the directions that hold 99 % of the energy; the paper's was not seen. Inputs are not "
    "centred, because a constant direction is part of the data.",
    granularity="matrix",
)
def utilized_rank(
    weight: Float[Tensor, "out in"], stats: SiteStatistics, *, energy: Annotated[float, Range(0.5, 1.0)] = 0.99
) -> Float[Tensor, ""]:
    """min(k_in, k_out) / min(out, in): k_in leading eigenvectors of G, k_out of W G W^T, each holding `energy`.

    Raises:
        WorkbenchError: NaN in weight or Gram, or the Gram was not collected.
    """
    check_finite(weight, "the weight")
    source, target = used_directions(weight, stats, energy)
    used = min(source.shape[1], target.shape[1])
    return torch.tensor(used / min(weight.shape), dtype=torch.float32, device=weight.device)


def used_directions(
    weight: Float[Tensor, "out in"], stats: SiteStatistics, energy: float
) -> tuple[Float[Tensor, "in k_in"], Float[Tensor, "out k_out"]]:
    """Orthonormal bases of the used inputs and outputs, float64; no column where nothing flows.

    Raises:
        WorkbenchError: NaN in the Gram, or it was not collected.
    """
    if stats.gram is None:
        raise WorkbenchError("this metric needs the Gram matrix of the layer's inputs; collect the statistic 'gram'")
    check_finite(stats.gram, "the Gram matrix")
    wide, gram = weight.double(), stats.gram.double()
    noise = torch.finfo(stats.gram.dtype).eps
    return _leading(gram, energy, noise), _leading(wide @ gram @ wide.T, energy, noise)


def _leading(matrix: Float[Tensor, "n n"], energy: float, noise: float) -> Float[Tensor, "n k"]:
    """The fewest eigenvectors that hold that share of the trace; what is rounding of the Gram does not count."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values, vectors = values.flip(0), vectors.flip(1)
    values = values.masked_fill(values <= len(values) ** 0.5 * noise * values[0].clamp(min=0), 0.0)
    sums = values.cumsum(0)
    missing = sums < energy * sums[-1] * (1 - 1e-12)
    count = int(missing.sum()) + 1 if sums[-1] > 0 else 0
    return vectors[:, :count]
