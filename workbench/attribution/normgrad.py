"""NormGrad: how large the gradient of the weights is that each token brings, ||g_t|| ||x_t||.

Rebuffi, Fong, Ji and Vedaldi 2020. The gradient of a matrix is a sum over tokens, dF/dW = sum_t g_t x_t^T with x_t what
goes in and g_t = dF/dy_t at what comes out, and the part of a token has the Frobenius norm ||g_t|| ||x_t||. The paper
does it for convolutions; for linear layers it is exact. Left out: its meta-saliency (one step of training between), and
the embedding and the head, which are no matrices of a block.
"""

from __future__ import annotations

import re
from typing import Literal

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from workbench.attribution.adapter import Adapter
from workbench.attribution.flow import watched
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError
from workbench.registry import attribution

IN_A_BLOCK = re.compile(r"\.\d+\.")


@attribution.register(
    "normgrad",
    summary="How much each token would move the weights of the blocks if they were trained on this target.",
    reference="Rebuffi, Fong, Ji, Vedaldi 2020, arXiv:2004.02866",
    cost="f + b",
    note="Linear layers in the place of convolutions. It says where the weights move more than for which answer: on a"
    " trained model the maps of the likeliest and the least likely token ranked tokens alike (Spearman 0.83-0.97). The"
    " product is a geometric mean over the matrices that every token reaches: in most of the last block the target sees"
    " the last token alone.",
)
def normgrad(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target, *, combine: Literal["mean", "product"] = "mean"
) -> Attribution:
    """Scores [tok] >= 0, combined over the matrices of the blocks.

    Raises:
        WorkbenchError: the model has no linear modules, or calls one otherwise than once with the whole prompt.
    """
    value, norms = weight_gradients(adapter, ids, target)
    if combine == "mean":
        return Attribution(norms.mean(0), value, notes=target.notes)
    reached = norms[(norms > 0).all(1)]
    if not len(reached):
        raise WorkbenchError("no matrix of this model is reached by every token; choose combine: mean")
    note = f"{len(reached)} of {len(norms)} matrices are reached by every token and make up the product"
    return Attribution(reached.log().mean(0).exp(), value, notes=(*target.notes, note))


def weight_gradients(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target
) -> tuple[float, Float64[Tensor, "matrix tok"]]:
    """F, and ||g_t|| ||x_t|| of every linear module but the head, in the order of the model; on the CPU.

    Raises:
        WorkbenchError: see `normgrad`.
    """
    modules = linear_modules(adapter)
    with adapter.recording(ids.shape[1]), watched(modules) as calls:
        embeds = adapter.embed(ids).requires_grad_()
        value = target.value(adapter.read_logits(embeds)).sum()
        for name, seen in calls.items():
            _check(name, seen, ids.shape[1])
        outputs = [seen[0][1] for seen in calls.values()]
        slopes = torch.autograd.grad(value, outputs, allow_unused=True, materialize_grads=True)
    rows = [
        slope.flatten(0, -2).double().norm(dim=-1) * seen[0][0].flatten(0, -2).double().norm(dim=-1)
        for slope, seen in zip(slopes, calls.values(), strict=True)
    ]
    return float(value.detach()), torch.stack(rows).cpu()


def linear_modules(adapter: Adapter) -> dict[str, nn.Module]:
    """The linear modules of the model by name, the head left out: of an encoder all that stands in no block.

    Raises:
        WorkbenchError: there are none.
    """
    head = adapter.model.get_output_embeddings()
    kinds, parts = (nn.Linear, Conv1D), list(adapter.model.named_modules())
    if head is None:
        parts = [(name, part) for name, part in parts if IN_A_BLOCK.search(name)]
    found: dict[str, nn.Module] = {name: part for name, part in parts if isinstance(part, kinds) and part is not head}
    if not found:
        raise WorkbenchError(f"{type(adapter.model).__name__} has no linear modules, which normgrad needs")
    return found


def _check(name: str, seen: list[tuple[Tensor, Tensor]], length: int) -> None:
    """Refuse a module whose calls cannot be read as one row a token."""
    if len(seen) != 1 or seen[0][0].shape[:-1].numel() != length:
        raise WorkbenchError(
            f"module {name!r} was called {len(seen)} times and not once with all {length} tokens of the prompt, which"
            " normgrad needs"
        )
