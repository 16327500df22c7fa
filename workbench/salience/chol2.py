"""The Hessian metric as the low-bit repositories compute it."""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from workbench.inverse_factor import inverse_factor
from workbench.model.sites import SiteStatistics
from workbench.registry import Range, salience
from workbench.salience.hessian import weigh_columns


@salience.register(
    "chol2",
    summary="Squared weight over the squared Cholesky diagonal of the inverse Hessian: twice the removal cost when the "
    "columns before it are already fixed.",
    reference="Code of hahnyuan/PB-LLM, Aaronhuang-778/BiLLM and Aaronhuang-778/SliM-LLM",
    needs=("gram",),
    cost="in^3 + out * in",
    note="The papers print `hinv2`; their code takes the diagonal after the inverse was overwritten by its Cholesky "
    "factor. It depends on the order of the columns. Dead columns take the mean of the live diagonal, where the code "
    "writes 1.",
    granularity="element",
    order_dependent=True,
)
def chol2(
    weight: Float[Tensor, "out in"], stats: SiteStatistics, *, damping: Annotated[float, Range(0.0, 1.0)] = 0.01
) -> Float[Tensor, "out in"]:
    """w_oj^2 / U_jj^2, where Hd^-1 = U^T U with U upper triangular.

    U_jj^2 is [(Hd[j:, j:])^-1]_00, so this is `obs` among the columns from j on: GPTQ, which rounds columns from left
    to right, pays half of it for setting w_oj to 0.

    Raises:
        WorkbenchError: NaN in weight or Gram, or a Gram that cannot be factored.
    """
    factor = inverse_factor(stats, damping)
    return weigh_columns(weight, factor.upper.diagonal().square().reciprocal(), factor)
