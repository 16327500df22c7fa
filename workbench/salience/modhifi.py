"""ModHiFi: how much of each output a single input channel can stand for."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.registry import salience


@salience.register(
    "modhifi",
    summary="Share of an output's energy that the best multiple of one input channel reproduces, mean over outputs.",
    reference="ModHiFi: Identifying High Fidelity Predictive Components for Model Modification, arXiv:2511.19566",
    needs=("gram",),
    cost="out * in^2",
    note="Our derivation of the paper's subset fidelity for single channels of a linear layer, from the Gram matrix. "
    "Choosing several channels by it is best only where channels are uncorrelated. Left out: pruning and the refit.",
    granularity="channel",
)
def modhifi(weight: Float[Tensor, "out in"], stats: SiteStatistics) -> Float[Tensor, "in"]:
    """Mean over outputs c of s_ci = v_i^2 / (G_ii w_c' G w_c), v = G w_c; between 0 and 1.

    s_ci does not depend on w_ci itself: it asks how well channel i, rescaled, stands in for the whole output. Dead
    channels score 0, outputs that are always zero are left out of the mean.

    Raises:
        WorkbenchError: NaN in weight or Gram, or the Gram was not collected.
    """
    check_finite(weight, "the weight")
    scores = singleton_fidelity(weight, stats)
    live = (scores.sum(1) > 0).sum().clamp(min=1)
    return (scores.sum(0) / live).float()


def singleton_fidelity(weight: Float[Tensor, "out in"], stats: SiteStatistics) -> Float[Tensor, "out in"]:
    """s_ci of every output and input channel, float64.

    Raises:
        WorkbenchError: NaN in the Gram, or it was not collected.
    """
    common, energy, gram = _shared(weight, stats)
    scale = energy[:, None] * gram.diagonal()
    scores = common.square() / scale.masked_fill(scale == 0, 1.0)
    return scores.masked_fill(scale == 0, 0.0).clamp(max=1.0)


def subset_fidelity(
    weight: Float[Tensor, "out in"], stats: SiteStatistics, channels: Int64[Tensor, " kept"]
) -> Float[Tensor, " out"]:
    """FS_c(C) = v_C' (G_CC)^+ v_C / (w_c' G w_c): the share of output c that the best mix of channels C reproduces.

    Never falls when channels are added; 1 for all of them. Outputs that are always zero have 1. float64.

    Raises:
        WorkbenchError: NaN in the Gram, or it was not collected.
    """
    common, energy, gram = _shared(weight, stats)
    kept = common[:, channels]
    inverse = torch.linalg.pinv(gram[channels][:, channels], hermitian=True)
    explained = ((kept @ inverse) * kept).sum(1)
    return torch.where(energy > 0, explained / energy.masked_fill(energy == 0, 1.0), torch.ones_like(energy))


def _shared(weight: Tensor, stats: SiteStatistics) -> tuple[Tensor, Tensor, Tensor]:
    """v = G w_c of every output, w_c' G w_c, and G, in float64."""
    if stats.gram is None:
        raise WorkbenchError("this metric needs the Gram matrix of the layer's inputs; collect the statistic 'gram'")
    check_finite(stats.gram, "the Gram matrix")
    wide, gram = weight.double(), stats.gram.double()
    common = wide @ gram
    return common, (common * wide).sum(1).clamp(min=0), gram
