"""PQI: the gradient integrated along the way from the full to the quantized weights."""

from __future__ import annotations

from typing import Annotated, Literal

from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import Range, salience


@salience.register(
    "pqi",
    summary="Post-quantization integral: gradient times quantization step, averaged along the straight path between "
    "full and quantized weights.",
    reference="Hu et al. 2025, Identifying Sensitive Weights via Post-quantization Integral, arXiv:2503.01901",
    needs=("quantized", "path"),
    cost="nodes backwards",
    note="The absolute value of each term is inferred from the paper's tables. The midpoint rule with 4 points stands "
    "in for the paper's 32 intervals. All matrices move along the path together. With `form=signed` the sum over all "
    "matrices is the change of the loss; do not rank weights by it: it fits the calibration text too closely.",
    granularity="element",
    compares_quantized=True,
    signed_when={"form": "signed"},
)
def pqi(
    weight: Float[Tensor, "out in"],
    stats: WeightStatistics,
    *,
    nodes: Annotated[int, Range(1, 64)] = 4,
    form: Literal["absolute", "signed"] = "absolute",
) -> Float[Tensor, "out in"]:
    """(1/N) sum_k |g(t_k) (q - w)| with t_k = (k + 1/2) / N, in nats; `signed` without the absolute value.

    g(t) is the gradient of the mean token loss over all windows at w + t (q - w). Per weight the absolute form is never
    below the signed one.

    Raises:
        WorkbenchError: the weight or the integral holds NaN or infinity, or the path was not walked at these points.
    """
    check_finite(weight, "the weight")
    scores = stats.get("path_abs" if form == "absolute" else "path_signed")
    if stats.nodes != nodes:
        raise WorkbenchError(f"the path was walked at {stats.nodes} points; option 'nodes' asks for {nodes}")
    check_finite(scores, "the path integral")
    return scores.float().clone()
