"""The transformer blocks of a model, found by the paths of its matrices, and how one of them is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from workbench.model.backward import oriented
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.streaming import present


@dataclass(frozen=True, eq=False)
class Block:
    """One transformer block.

    Attributes:
        index: its number.
        path: path of its module, such as `model.layers.0`.
        module: the module.
        matrices: its quantizable matrices in the model's order.
    """

    index: int
    path: str
    module: nn.Module
    matrices: tuple[Matrix, ...]

    def inner(self, path: str) -> str:
        """A path of the model as seen from the block."""
        return path.removeprefix(f"{self.path}.")

    def run(
        self,
        call: Call,
        hidden: Float[Tensor, "window tok hid"],
        weights: Mapping[str, Tensor],
        others: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """What the block makes of hidden states, with other weights `[out, in]` in place of some of its own.

        The weights are handed to the call and never written into the model; a gradient flows to them.

        Args:
            call: what the block is called with beside the hidden states.
            hidden: the hidden states.
            weights: matrix name -> weight.
            others: parameter name -> value of a norm or a bias, as the model stores it.
        """
        return self.run_inside(self.path, call, hidden, weights, others)

    def run_inside(
        self,
        path: str,
        call: Call,
        first: Tensor,
        weights: Mapping[str, Tensor],
        others: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """What a module inside the block makes of its first tensor; as `run`, names outside it are ignored."""
        held = {matrix.name: matrix for matrix in self.matrices}
        origin, home = first.device, self._home(first)
        first = first.to(home)
        given = {name: oriented(weight.to(home), held[name]) for name, weight in weights.items()}
        given |= {name: value.to(home) for name, value in (others or {}).items()}
        values = {name.removeprefix(f"{path}."): value for name, value in given.items() if name.startswith(f"{path}.")}
        module = self.module if path == self.path else self.module.get_submodule(self.inner(path))
        if module is self.module:
            output: Any = functional_call(module, values, (first, *call.arguments), dict(call.keywords))
        else:
            with present(self.module):  # a module inside does not fetch weights by itself
                output = functional_call(module, values, (first, *call.arguments), dict(call.keywords))
        return (output if isinstance(output, Tensor) else output[0]).to(origin)

    def _home(self, first: Tensor) -> torch.device:
        """Where the block's weights lie; with its input, where they are read from files when it runs."""
        here = next(iter(self.module.parameters()), first).device
        return first.device if here.type == "meta" else here


@dataclass(frozen=True, eq=False)
class Call:
    """What a module is called with beside its first tensor: masks, positions and the like."""

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]

    @staticmethod
    def split(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Tensor, Call]:
        """The first tensor of a call, given by position or by name, and the rest of it."""
        if arguments:
            return arguments[0], Call(arguments[1:], dict(keywords))
        rest = dict(keywords)
        first = next(name for name, value in rest.items() if isinstance(value, Tensor))
        return rest.pop(first), Call((), rest)


def find_blocks(model: transformers.PreTrainedModel) -> list[Block]:
    """The blocks in order; matrices outside of them (an embedding's projection, say) belong to none."""
    inside = [matrix for matrix in quantizable_matrices(model) if block_path(matrix) is not None]
    found = []
    for path, part in groupby(inside, key=block_path):
        matrices = tuple(part)
        if path is not None:  # always so: `inside` holds no others
            found.append(Block(int(path.rpartition(".")[2]), path, model.get_submodule(path), matrices))
    return found


def block_path(matrix: Matrix) -> str | None:
    """Path of the block that holds a matrix: up to the first number, as `Matrix.block` is read."""
    match = re.match(r"(.*?\.\d+)\.", matrix.module)
    return match[1] if match and matrix.block is not None else None
