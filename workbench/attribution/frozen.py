"""A network made linear at one prompt, by freezing everything that only says how much of something passes.

Frozen at their value, so that no gradient flows through them: the scales of RMSNorm and LayerNorm, attention
probabilities, the activation of a gate. An activation that is no gate is replaced by the line through (0, phi(0)) and
(u, phi(u)). Every value of the forward pass stays as it was, to the digit, and F becomes affine in the embeddings:
F = sum x . dF/dx + what the added constants bring. The constants are recorded with the place where they enter. The
rules are those of layer-wise relevance propagation for transformers without its epsilon (Ali et al. 2022 for norms and
attention; Achtibat et al. 2024 share products, which is the option `split`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from workbench.attribution.patches import ADDING, Function, Rule, Rules, depends
from workbench.attribution.rules import carry, norm_parts
from workbench.errors import WorkbenchError

ACTIVATING = ("activation", "silu", "gelu", "relu", "relu6", "leaky_relu", "elu", "tanh", "sigmoid", "softplus", "mish")
STATISTICS = ("softmax", "rsqrt", "sqrt", "reciprocal")


class Frozen(Rules):
    """The rules, and the constants that the network adds.

    Args:
        method: name for messages.
        split: give each factor of a gated product half of it, where the gate would else be frozen.
    """

    def __init__(self, method: str, split: bool = False) -> None:
        table: dict[str, Rule] = {
            **dict.fromkeys(ACTIVATING, self._activate),
            **dict.fromkeys(STATISTICS, _freeze),
            **dict.fromkeys(("mul", "multiply"), self._multiply),
            **dict.fromkeys(("matmul", "__matmul__", "bmm", "mm"), _share),
            **dict.fromkeys(("div", "true_divide", "__truediv__"), _divide),
            "pow": _power,
            "layer_norm": self._layer_norm,
            "scaled_dot_product_attention": _attend,
        }
        super().__init__(method, table)
        self.split = split
        self.added: list[tuple[Tensor, Tensor]] = []
        """(what an operation gave, the constant in it)."""
        self._gates: list[Tensor] = []

    def linear(self, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Run an affine operation and record its constant."""
        result = super().linear(function, arguments, keywords)
        if function.__name__ in ADDING:
            self._record(result, _constant(function, arguments, keywords))
        return result

    def biases(
        self, value: Tensor, leaf: Tensor, kept: int = 1, first: int | None = None
    ) -> tuple[Tensor, Float64[Tensor, " tok"]]:
        """The gradient of `value` at the embeddings `leaf` [1 tok hid], and what the constants bring by position [tok].

        `kept` is how many positions the head was computed for, from `first` on; those at the end when not given.

        Raises:
            WorkbenchError: a constant enters at no position of its own.
        """
        outputs = [result for result, _ in self.added]
        slope, *slopes = torch.autograd.grad(value, [leaf, *outputs], allow_unused=True)
        total = torch.zeros(leaf.shape[1], dtype=torch.float64, device=leaf.device)
        for gradient, (_, constant) in zip(slopes, self.added, strict=True):
            if gradient is not None:
                total += by_position((gradient.double() * constant.double()).sum(-1), len(total), kept, first)
        return slope, total.cpu()

    def _record(self, result: Tensor, constant: Tensor | None) -> None:
        if constant is not None:
            self.added.append((result, constant.detach()))

    def _activate(self, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
        given = arguments[0]
        value, rest = (
            function(point, *arguments[1:], **keywords).detach()
            for point in (given.detach().clone(), torch.zeros_like(given))
        )
        apart = given.detach() != 0
        slope = torch.where(apart, (value - rest) / torch.where(apart, given.detach(), 1.0), 0.0)
        result = carry(value, (given, slope))
        self._record(result, rest if bool(rest.any()) else None)
        self._gates.append(result)
        return result

    def _multiply(self, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
        gated = [any(factor is gate for gate in self._gates) for factor in arguments[:2]]
        if self.split or gated[0] == gated[1]:
            return _share(function, arguments, keywords)
        return function(*(factor.detach() if gate else factor for factor, gate in zip(arguments, gated, strict=True)))

    def _layer_norm(self, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
        given, weight, bias, epsilon = norm_parts(arguments, keywords)
        centred = given - given.mean(-1, keepdim=True)
        scale = (centred.detach().square().mean(-1, keepdim=True) + epsilon).rsqrt()
        result = carry(function(*arguments, **keywords), (centred, scale if weight is None else scale * weight))
        self._record(result, bias)
        return result


def by_position(parts: Tensor, length: int, kept: int = 1, first: int | None = None) -> Float[Tensor, " tok"]:
    """Contributions summed to one a position; those of `kept` positions from `first` on (the last) may come alone.

    Raises:
        WorkbenchError: no axis is that of the positions.
    """
    if parts.numel() == length:
        return parts.flatten()
    if parts.ndim and parts.shape[-1] == length:
        return parts.flatten(0, -2).sum(0)
    if parts.numel() != kept:
        raise WorkbenchError(
            f"a constant of this model enters as {list(parts.shape)}, which has no axis for its {length} tokens"
        )
    start = length - kept if first is None else first
    return torch.nn.functional.pad(parts.flatten(), (start, length - start - kept))


def _constant(function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor | None:
    """What an affine operation gives where its input is zero; None when that is nothing."""
    if function.__name__ == "linear":
        return keywords.get("bias", arguments[2] if len(arguments) > 2 else None)
    if function.__name__ == "addmm":
        return arguments[0]
    values = [given for given in (*arguments, *keywords.values()) if not isinstance(given, bool)]
    if all(depends(given) for given in values):
        return None
    empty = [torch.zeros_like(given) if depends(given) else given for given in arguments]
    return function(
        *empty, **{k: torch.zeros_like(given) if depends(given) else given for k, given in keywords.items()}
    )


def _freeze(function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
    return function(*arguments, **keywords).detach()


def _share(function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
    """Half of a product for each factor."""
    left, right = arguments
    return (function(left, right.detach()) + function(left.detach(), right)) / 2


def _divide(function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
    return function(arguments[0], arguments[1].detach(), **keywords)


def _power(function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
    given, exponent = arguments
    return carry(function(given, exponent), (given, given.detach() ** (exponent - 1)))


def _attend(function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
    """Fused attention with its probabilities frozen: it is linear in the values."""
    query, key, *rest = arguments
    return function(query.detach(), key.detach(), *rest, **keywords)
