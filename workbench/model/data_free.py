"""SynFlow's pass: one token of ones through the model with absolute weights, and the derivative of all outputs' sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.activations import ACT2CLS

from workbench.model.matrices import Matrix

ACTIVATIONS = (
    *{kind[0] if isinstance(kind, tuple) else kind for kind in ACT2CLS.values()},
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
)
EPSILON = 1e-12


def synflow_scores(model: Any, matrices: Sequence[Matrix]) -> dict[str, Tensor]:
    """Parameter name -> |w| dR/d|w| of the matrices, laid out as the model stores them; none is negative.

    R is the sum of the logits of one position whose embedding is all ones, every parameter by its absolute value,
    activation functions passed through, and norms dividing by the root mean square of their input as by a constant,
    without taking a mean away. So all that flows is positive and what enters a matrix equals what leaves it.
    """
    values = {name: parameter.detach().abs() for name, parameter in model.named_parameters()}
    for matrix in matrices:
        values[matrix.name].requires_grad_()
    leaves = [values[matrix.name] for matrix in matrices]
    width = model.get_input_embeddings().weight.shape[1]
    ones = torch.ones(1, 1, width, dtype=leaves[0].dtype, device=model.device)
    with _linear(model), torch.enable_grad():
        output = functional_call(model, values, (), {"inputs_embeds": ones, "use_cache": False})
        total = output.logits.sum()
        slopes = torch.autograd.grad(total, leaves, materialize_grads=True)
    return {matrix.name: (leaf.detach() * slope) for matrix, leaf, slope in zip(matrices, leaves, slopes, strict=True)}


@contextmanager
def _linear(model: nn.Module) -> Iterator[None]:
    """Activations and norms replaced by hooks for the time of one call."""
    hooks = []
    try:
        for module in model.modules():
            replaced = _replacement(module)
            if replaced is not None:
                hooks.append(module.register_forward_hook(replaced))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _replacement(module: nn.Module) -> Callable[..., Tensor] | None:
    if isinstance(module, ACTIVATIONS):
        return lambda module, inputs, output: inputs[0]
    return _scaled if type(module).__name__.endswith("Norm") else None


def _scaled(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """x |gain| / rms(x) + |bias|, with the root mean square taken as a constant."""
    x = inputs[0]
    size = x.detach().square().mean(-1, keepdim=True).sqrt().clamp_min(EPSILON)
    gain, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    scaled = x / size if gain is None else x / size * gain
    return scaled if bias is None else scaled + bias
