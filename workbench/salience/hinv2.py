"""The Hessian metric as the low-bit papers print it."""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from workbench.inverse_factor import inverse_factor
from workbench.model.sites import SiteStatistics
from workbench.registry import Range, salience
from workbench.salience.hessian import weigh_columns


@salience.register(
    "hinv2",
    summary="Squared weight over the squared diagonal of the inverse Hessian.",
    reference="Formula printed in PB-LLM (arXiv:2310.00034), BiLLM (arXiv:2402.04291) and SliM-LLM (arXiv:2405.14917)",
    needs=("gram",),
    cost="in^3 + out * in",
    note="The official code of all three papers computes `chol2` instead.",
    granularity="element",
)
def hinv2(
    weight: Float[Tensor, "out in"], stats: SiteStatistics, *, damping: Annotated[float, Range(0.0, 1.0)] = 0.01
) -> Float[Tensor, "out in"]:
    """w_oj^2 / ([Hd^-1]_jj)^2, where Hd = 2 G + damping * mean(diag 2 G) * I.

    Weighs the activations twice as strongly as `obs`, and is no removal cost: its unit is that of a weight squared
    times an activation to the fourth.

    Raises:
        WorkbenchError: NaN in weight or Gram, or a Gram that cannot be factored.
    """
    factor = inverse_factor(stats, damping)
    return weigh_columns(weight, factor.diagonal().reciprocal().square(), factor)
