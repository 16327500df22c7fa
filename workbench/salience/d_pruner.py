"""D-Pruner: a weight matters for a domain, or for what the model knows in general, or for both."""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.inverse_factor import inverse_factor
from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import Range, salience
from workbench.salience.hessian import weigh_columns


@salience.register(
    "d_pruner",
    summary="Loss change of removing the weight on a second text, plus its general importance from the calibration "
    "text.",
    reference="Our definition, after Zhang et al. 2024, Pruning as a Domain-specific LLM Extractor (D-Pruner)",
    needs=("gram", "grad"),
    cost="in^3 + 1 backward over the second text",
    note="Our definition: the paper adds the general part to the loss as a penalty and scores while it trains; without "
    "a step of training that penalty has no gradient, so here both parts are added as scores.",
    granularity="element",
    second_text=True,
)
def d_pruner(
    weight: Float[Tensor, "out in"],
    stats: WeightStatistics,
    *,
    general: Annotated[float, Range(0.0, 100.0)] = 1.0,
    damping: Annotated[float, Range(0.0, 1.0)] = 0.01,
) -> Float[Tensor, "out in"]:
    """|w g - (w g)^2 / 2| on the second text plus `general` times w^2 / (2 [Hd^-1]_jj), rescaled.

    The general part is scaled so that at `general=1` both parts have the same sum over the matrix, because their units
    differ (nats and squared outputs). Where the second text gives no gradient at all it stands alone and unscaled.

    Raises:
        WorkbenchError: NaN in weight, gradient or Gram, or one of them was not collected.
    """
    check_finite(weight, "the weight")
    if stats.site is None:
        raise WorkbenchError("this metric needs the Gram matrix of the layer's inputs; collect the statistic 'gram'")
    gradient = stats.get("grad")
    check_finite(gradient, "the gradient")
    change = weight.double() * gradient.double()
    domain = (change - change.square() / 2).abs()
    factor = inverse_factor(stats.site, damping)
    kept = weigh_columns(weight, 1 / (2 * factor.diagonal()), factor).double()
    total, mass = domain.sum(), kept.sum()
    scale = total / mass if total > 0 and mass > 0 else total.new_ones(())
    return (domain + general * scale * kept).float()
