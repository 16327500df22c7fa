"""What is known of one matrix beyond its inputs: gradients of the loss, its quantized form, the path between."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.model.sites import LEVELS, SiteStatistics

NEEDS = {
    "grad": 3,
    "grad_sq": 3,
    "synflow": 3,
    "hessian_gradient": 3,
    "quantized": 4,
    "path": 4,
    "hessian_step": 4,
}
"""Names that a metric's `needs` may hold beside `sites.LEVELS` -> level of memory (3 gradients, 4 a second weight)."""

GRADIENTS = ("grad", "grad_sq", "synflow", "hessian_gradient", "path", "hessian_step")
"""The needs that take a backward pass through the model."""


@dataclass(eq=False)
class WeightStatistics:
    """What is known of one matrix `[out, in]`: of its inputs, of the loss around its weights, of its quantized form.

    Losses are the mean over predicted tokens, in nats. float32, or wider where the model is.

    Attributes:
        site: statistics of the matrix's inputs.
        windows: gradients are of the mean token loss over these windows.
        nodes: points of the path that were averaged over.
        grad: gradient of the mean token loss.
        grad_sq: mean over windows of the squared gradient of each window's own mean loss: the diagonal of the
            empirical Fisher matrix with a window as its sample.
        quantized: the dense quantized weight q.
        path_abs: (1/N) sum_k |g(t_k) (q - w)|, where g(t) is the gradient over all windows at w + t (q - w) of all
            matrices and t_k = (k + 1/2) / N.
        path_signed: the same without the absolute value; over all matrices it sums to the change of the loss.
        hessian_step: H d with the Hessian H of the mean token loss and d = q - w, both over all matrices at once.
        hessian_gradient: H g with g the gradient over all matrices.
        synflow: w dR/dw of the data-free pass of SynFlow.
    """

    site: SiteStatistics | None = None
    windows: int = 0
    nodes: int = 0
    grad: Float[Tensor, "out in"] | None = None
    grad_sq: Float[Tensor, "out in"] | None = None
    quantized: Float[Tensor, "out in"] | None = None
    path_abs: Float[Tensor, "out in"] | None = None
    path_signed: Float[Tensor, "out in"] | None = None
    hessian_step: Float[Tensor, "out in"] | None = None
    hessian_gradient: Float[Tensor, "out in"] | None = None
    synflow: Float[Tensor, "out in"] | None = None

    def get(self, name: str) -> Float[Tensor, "out in"]:
        """One of the tensors.

        Raises:
            WorkbenchError: it was not collected.
        """
        tensor = getattr(self, name)
        if tensor is None:
            raise WorkbenchError(f"this metric needs {SPOKEN.get(name, name)}; collect the statistic {need_of(name)!r}")
        return tensor


SPOKEN = {
    "grad": "the gradient of the loss",
    "grad_sq": "the squared gradients of the windows",
    "quantized": "the quantized weight",
    "path_abs": "the gradients along the path to the quantized weight",
    "path_signed": "the gradients along the path to the quantized weight",
    "hessian_step": "the Hessian times the quantization step",
    "hessian_gradient": "the Hessian times the gradient",
    "synflow": "the data-free pass of SynFlow",
}


def need_of(field: str) -> str:
    """The name in `NEEDS` that brings a field of `WeightStatistics`."""
    return "path" if field.startswith("path_") else field


def only_of_inputs(needs: tuple[str, ...]) -> bool:
    """Whether a metric of these needs is given `SiteStatistics`: all of them are of the matrix's inputs."""
    return set(needs) <= set(LEVELS)
