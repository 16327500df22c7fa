"""What each group of weights carries of a target through one token, and what its rounding takes from it.

In the network made linear at the prompt (`frozen`), with y_t = W x_t (+ bias) and g_t = dF/dy_t, the columns q of a
matrix carry g_t . (W_q x_t,q); over all groups of columns that is g_t . (W x_t). Columns that share a step of a
quantization grid are a group, in all rows together. Beside it stands what the rounding D = W - Wq of the same group
does to the same input: the length of D_q x_t,q, and g_t . (D_q x_t,q), which is what F loses by it to first order.
Queries, keys and gates carry nothing here: the linear network holds what they decide. Ours; no attribution method, for
F is not the sum over the matrices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from workbench.attribution.adapter import Adapter
from workbench.attribution.flow import check_calls, watched
from workbench.attribution.frozen import Frozen
from workbench.attribution.patches import ruled
from workbench.attribution.targets import Target
from workbench.model.streaming import parameter_of


@dataclass(frozen=True, slots=True)
class GroupFlow:
    """One matrix at one token. All on the CPU.

    Attributes:
        flow: g . (W_q x_q), units of F.
        size: length of W_q x_q, the group's part of the matrix's output.
        error: length of D_q x_q, in the same units; None without rounding.
        lost: g . (D_q x_q), units of F, positive where rounding takes from F; None without rounding.
        total: g . y of what the matrix gave, without its bias: the sum of `flow`, but for rounding of numbers.
    """

    flow: Float64[Tensor, " group"]
    size: Float64[Tensor, " group"]
    error: Float64[Tensor, " group"] | None
    lost: Float64[Tensor, " group"] | None
    total: float


def group_flow(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    modules: Mapping[str, nn.Module],
    position: int,
    group_sizes: Mapping[str, int],
    differences: Mapping[str, Float[Tensor, "out in"]],
    transposed: Collection[str] = (),
) -> dict[str, GroupFlow]:
    """The flow through every group of every module at a token, by one forward and one backward pass.

    Args:
        adapter: the model, full.
        ids: the prompt.
        target: F.
        modules: linear modules by matrix name.
        position: the token, counted from 0.
        group_sizes: columns of a group, a matrix each; -1 is the whole row.
        differences: D = W - Wq of the matrices that are rounded.
        transposed: names of those whose weight is stored [in, out].

    Raises:
        WorkbenchError: an operation that cannot be made linear, or a matrix that is not called once with the whole
            prompt.
    """
    frozen = Frozen("token flow")
    with adapter.recording(ids.shape[1]), watched(modules) as calls:
        leaf = adapter.embed(ids).detach().clone().requires_grad_()
        with ruled(adapter.model, frozen):
            logits = adapter.read_logits(leaf)
        value = target.value(logits).sum()
        for name in modules:
            check_calls(name, calls[name], ids.shape[1])
        outputs = [calls[name][0][1] for name in modules]
        gradients = torch.autograd.grad(value, outputs, allow_unused=True, materialize_grads=True)
    found = {}
    for (name, module), gradient in zip(modules.items(), gradients, strict=True):
        given, gave = (one.detach().flatten(0, -2)[position].double() for one in calls[name][0])
        slope = gradient.flatten(0, -2)[position].double()
        weight = parameter_of(module, "weight").double()
        weight = weight.T if name in transposed else weight
        bias = parameter_of(module, "bias").double() if isinstance(module.bias, Tensor) else torch.zeros_like(gave)
        flow, size = _parts(weight, given, slope, group_sizes[name])
        moved = differences.get(name)
        lost, error = (None, None) if moved is None else _parts(moved.to(weight), given, slope, group_sizes[name])
        found[name] = GroupFlow(flow, size, error, lost, float(slope @ (gave - bias)))
    return found


def _parts(
    weight: Float64[Tensor, "out in"], given: Float64[Tensor, " in"], slope: Float64[Tensor, " out"], group_size: int
) -> tuple[Float64[Tensor, " group"], Float64[Tensor, " group"]]:
    """g . (W_q x_q) and the length of W_q x_q of every group of columns."""
    columns = weight.shape[1]
    width = columns if group_size == -1 else group_size
    groups = [(weight[:, at : at + width] @ given[at : at + width]) for at in range(0, columns, width)]
    outputs = torch.stack(groups)
    return (outputs @ slope).cpu(), outputs.norm(dim=1).cpu()
