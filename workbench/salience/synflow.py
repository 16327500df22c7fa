"""SynFlow: how much of a flow of ones through the absolute weights passes through a weight."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import salience


@salience.register(
    "synflow",
    summary="Absolute weight times the derivative of the summed output of a data-free pass of ones through the "
    "absolute weights.",
    reference="Tanaka et al. 2020, Pruning neural networks without any data by iteratively conserving synaptic "
    "flow, arXiv:2006.05467; code 0-ml/speft",
    needs=("synflow",),
    cost="1 backward of 1 token",
    note="Our definition for transformers: activation functions are passed through and norms divide by a "
    "constant, so that flow is conserved; one token attends to itself alone, so queries and keys score "
    "zero. Left out: the paper prunes in a hundred steps.",
    granularity="element",
)
def synflow(weight: Float[Tensor, "out in"], stats: WeightStatistics) -> Float[Tensor, "out in"]:
    """|w| dR/d|w|, R the sum of the logits of one position; see `workbench.model.data_free` for the pass.

    What enters a hidden unit leaves it: up and down of a gated MLP have the same sum, and so do value and output of an
    attention.

    Raises:
        WorkbenchError: the weight or the gradient holds NaN or infinity, or the gradient was not collected.
    """
    check_finite(weight, "the weight")
    flow = stats.get("synflow")
    check_finite(flow, "the synaptic flow")
    return flow.float().abs()
