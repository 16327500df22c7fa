"""The size of the gradient at each token: ||dF/dx_i||, after Simonyan, Vedaldi and Zisserman 2013.

The paper takes the largest entry over the colour channels of a pixel; the Euclidean norm is the default here because a
hidden dimension is no colour. Left out: averaging over noisy copies of the input (SmoothGrad).
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Int
from torch import Tensor
from torch.linalg import vector_norm

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.registry import attribution

ORDERS = {"l2": 2.0, "l1": 1.0, "max": float("inf")}


@attribution.register(
    "gradient",
    summary="How strongly the target reacts to a small change of each token's embedding.",
    reference="Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034",
    cost="f + b",
)
def gradient(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target, *, norm: Literal["l2", "l1", "max"] = "l2"
) -> Attribution:
    """Scores [tok] >= 0: a norm over the hidden dimensions of dF/dx."""
    value, slope = adapter.gradients(adapter.embed(ids), target.value)
    scores = vector_norm(slope[0].double(), ord=ORDERS[norm], dim=-1)
    return Attribution(scores.cpu(), float(value), notes=target.notes)
