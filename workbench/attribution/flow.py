"""Gradient x weight per matrix and token: where in the network, and at which token, a target is carried.

For a matrix W that makes y_t = W x_t (+ bias) at token t, and g_t = dF/dy_t, the contribution of its weights at that
token is g_t . (W x_t); over all tokens it adds up to sum(W * dF/dW). This is no attribution method: it scores pairs of
matrix and token, and F is not their sum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from workbench.attribution.adapter import Adapter
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError
from workbench.model.streaming import parameter_of


def weight_flow(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    modules: Mapping[str, nn.Module],
    transposed: Collection[str] = (),
) -> tuple[Float64[Tensor, "matrix tok"], Float64[Tensor, "matrix tok"]]:
    """The signed contribution and its magnitude, one row a module, in the order of `modules`.

    One forward and one backward pass; the inputs and outputs of all modules are held for the one prompt.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        modules: linear modules of the model by matrix name; each has a `weight`.
        transposed: names of those whose weight is stored [in, out] (GPT-2's Conv1D).

    Returns:
        signed: g_t^T W x_t; magnitude: |g_t|^T |W| |x_t|, what it could be if nothing cancelled. Units of F.

    Raises:
        WorkbenchError: a module was not called once with the whole prompt (a router sent tokens elsewhere).
    """
    with adapter.recording(ids.shape[1]), watched(modules) as calls:
        embeds = adapter.embed(ids).requires_grad_()
        value = target.value(adapter.read_logits(embeds)).sum()
        for name in modules:
            check_calls(name, calls[name], ids.shape[1])
        outputs = [calls[name][0][1] for name in modules]
        gradients = torch.autograd.grad(value, outputs, allow_unused=True, materialize_grads=True)
    rows = [
        _contributions(gradient.flatten(0, -2), calls[name][0][0].flatten(0, -2), _weight(module, name in transposed))
        for gradient, (name, module) in zip(gradients, modules.items(), strict=True)
    ]
    signed, magnitude = zip(*rows, strict=True)
    return torch.stack(signed).cpu(), torch.stack(magnitude).cpu()


@contextmanager
def watched(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """The (input, output) of every call of every module inside; hooks are gone after."""
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in modules}

    def recorder(name: str) -> Any:
        return lambda module, arguments, output: calls[name].append((arguments[0].detach(), output))

    handles = [module.register_forward_hook(recorder(name)) for name, module in modules.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def check_calls(name: str, calls: list[tuple[Tensor, Tensor]], length: int) -> None:
    """Refuse a module whose calls cannot be read as one row a token.

    Raises:
        WorkbenchError: it was not called once with the whole prompt.
    """
    shapes = [tuple(given.shape) for given, _ in calls]
    if len(shapes) != 1 or prod(shapes[0][:-1]) != length:
        seen = f"{len(shapes)} times" + (f", first with an input of shape {shapes[0]}" if shapes else "")
        raise WorkbenchError(
            f"matrix {name!r} was called {seen}; its flow needs one call with all {length} tokens of the prompt"
        )


def _weight(module: nn.Module, transposed: bool) -> Float[Tensor, "out in"]:
    """The weight of a linear module as [out, in]."""
    weight = parameter_of(module, "weight")
    return weight.T if transposed else weight


def _contributions(
    gradient: Float[Tensor, "tok out"], given: Float[Tensor, "tok in"], weight: Float[Tensor, "out in"]
) -> tuple[Float64[Tensor, " tok"], Float64[Tensor, " tok"]]:
    """g_t . (W x_t) and |g_t| . (|W| |x_t|) of every token."""
    signed = (gradient.double() * linear(given, weight).double()).sum(-1)
    magnitude = (gradient.abs().double() * linear(given.abs(), weight.abs()).double()).sum(-1)
    return signed, magnitude
