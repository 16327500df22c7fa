"""SynFlow's pass: one token of ones through the model with absolute weights, and the derivative of all outputs' sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.activations import ACT2CLS

from workbench.model.chain import Chain, part_of
from workbench.model.matrices import Matrix
from workbench.model.streaming import parameter_of
from workbench.progress import Progress, Steps

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


def chain_synflow(model: Any, give: Callable[[Matrix, Tensor], None]) -> Steps[None]:
    """The same scores of all matrices, handed over from the back; one part of the model is held at a time.

    Args:
        model: the model, whose blocks follow one another directly.
        give: takes a matrix and its scores, laid out as the model stores them.
    """
    width = model.get_input_embeddings().weight.shape[1]
    ones = torch.ones(1, 1, width, device=model.device)
    token = torch.zeros(1, 1, dtype=torch.int64)
    chain = Chain(model, [token], lambda _: {"inputs_embeds": ones, "use_cache": False})
    yield from chain.open()
    inside = {name for block in chain.blocks for name, _ in _parameters(block.path, block.module)}
    apart = [name for name, _ in model.named_parameters() if name not in inside]
    outside, total = _absolute(model, apart, chain.outside), len(chain.blocks)
    with _linear(model), torch.no_grad():
        states = [chain.front(token, outside)]
    for place in range(total):
        yield Progress(place, 2 * total, f"data-free pass, forward through {chain.blocks[place].path}")
        with _linear(model), torch.no_grad():
            states.append(chain.run(place, states[place], _block_values(chain, place)))
    last = states[total].requires_grad_()
    with _linear(model), torch.enable_grad():
        output = chain.logits(token, last, outside, torch.zeros(1, dtype=torch.int64)).sum()
        slope, *behind = _slopes(output, None, [last, *(outside[matrix.name] for matrix in chain.outside)])
    for place in range(total - 1, -1, -1):
        yield Progress(2 * total - place, 2 * total, f"data-free pass, back through {chain.blocks[place].path}")
        values, hidden = _block_values(chain, place), states[place].requires_grad_()
        leaves = [values[matrix.name] for matrix in part_of(chain, place)]
        with _linear(model), torch.enable_grad():
            slope, *found = _slopes(chain.run(place, hidden, values), slope, [hidden, *leaves])
        for matrix, leaf, one in zip(part_of(chain, place), leaves, found, strict=True):
            give(matrix, leaf.detach() * one)
    leaves = [outside[matrix.name] for matrix in chain.outside]
    if leaves:
        with _linear(model), torch.enable_grad():
            front = _slopes(chain.front(token, outside), slope, leaves)
        for matrix, leaf, one, other in zip(chain.outside, leaves, front, behind, strict=True):
            give(matrix, leaf.detach() * (one + other))


def _parameters(path: str, module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(f"{path}.{name}", one) for name, one in module.named_parameters()]


def _block_values(chain: Chain, place: int) -> dict[str, Tensor]:
    chain.fetch(place)
    names = [name for name, _ in _parameters(chain.blocks[place].path, chain.blocks[place].module)]
    return _absolute(chain.model, names, part_of(chain, place))


def _absolute(model: Any, names: Sequence[str], leaves: Sequence[Matrix]) -> dict[str, Tensor]:
    """Absolute values by parameter name, those of some matrices as leaves that want a gradient."""
    values = {name: parameter_of(model, name).abs() for name in names}
    for matrix in leaves:
        values[matrix.name].requires_grad_()
    return values


def _slopes(output: Tensor, slope: Tensor | None, sources: Sequence[Tensor]) -> Sequence[Tensor]:
    if not output.requires_grad:
        return [torch.zeros_like(one) for one in sources]
    return torch.autograd.grad(output, list(sources), slope, materialize_grads=True)


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
