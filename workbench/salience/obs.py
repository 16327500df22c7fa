"""Optimal Brain Surgeon: the output error of removing a weight when the others of its row make up for it."""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from workbench.inverse_factor import inverse_factor
from workbench.model.sites import SiteStatistics
from workbench.registry import Range, salience
from workbench.salience.hessian import weigh_columns


@salience.register(
    "obs",
    summary="Squared weight over the inverse Hessian's diagonal: twice the output error that is left after the best "
    "compensation by the other weights of its row.",
    reference="Hassibi & Stork 1992, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon, NIPS 5",
    needs=("gram",),
    cost="in^3 + out * in",
    note="The paper's Hessian is that of the model's loss; here it is that of the layer's own squared output error.",
    granularity="element",
)
def obs(
    weight: Float[Tensor, "out in"], stats: SiteStatistics, *, damping: Annotated[float, Range(0.0, 1.0)] = 0.01
) -> Float[Tensor, "out in"]:
    """w_oj^2 / [Hd^-1]_jj, where Hd = 2 G + damping * mean(diag 2 G) * I.

    Half of it is the minimum of 1/2 d^T Hd d over changes d of the row with d_j = -w_oj. Never above `obd` of the same
    damped Hessian, since doing nothing to the other weights is one of the choices.

    Raises:
        WorkbenchError: NaN in weight or Gram, or a Gram that cannot be factored.
    """
    factor = inverse_factor(stats, damping)
    return weigh_columns(weight, 1 / factor.diagonal(), factor)
