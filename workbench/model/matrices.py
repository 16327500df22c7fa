"""The matrices of a model whose bits can be taken, whatever class holds them.

A matrix is the weight of an `nn.Linear` or of a transformers `Conv1D` (GPT-2, which stores the transpose), found by
class and never by the name of a model family. Embeddings and the output head are left out, as the papers leave them
out, and so is everything that is not a linear layer; `skipped_parameters` lists them with reasons. Stacked experts
(three-dimensional parameters of mixture-of-experts models) are not split into matrices.

Which matrices read the same input is seen, not guessed from names: a short sequence is run through the model once, and
modules that are given the very same tensor (memory, shape, strides and version) share a site. Llama's q, k and v do,
and so do q and the first matrix of the MLP in families whose attention and MLP stand side by side.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn

from workbench.model.build import PROBE, embedded_tokens
from workbench.model.streaming import parameter_of


@dataclass(frozen=True)
class Matrix:
    """One quantizable weight `[out, in]`.

    Attributes:
        name: parameter name, such as `model.layers.0.mlp.down_proj.weight`.
        module: path of the module that holds it.
        block: index of its transformer layer, None outside of the layers.
        role: last part of the module's path, such as `down_proj`.
        rows: number of outputs.
        columns: number of inputs.
        site: path of the first module that reads the same input.
        transposed: whether the parameter is stored `[in, out]`.
    """

    name: str
    module: str
    block: int | None
    role: str
    rows: int
    columns: int
    site: str
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """`(out, in)`."""
        return self.rows, self.columns

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Skipped:
    """Parameters that are left in full precision, and why; `*` in a name stands for every layer's number."""

    name: str
    reason: str
    parameters: int


_found: WeakKeyDictionary[nn.Module, list[Matrix]] = WeakKeyDictionary()


def quantizable_matrices(model: transformers.PreTrainedModel) -> list[Matrix]:
    """The model's matrices in the order of its modules; found once a model and remembered as long as it lives."""
    if model not in _found:
        modules = _linear_modules(model)
        sites = _observe_sites(model, modules)
        _found[model] = [_describe(path, module, sites[path]) for path, module in modules.items() if path in sites]
    return list(_found[model])


def skipped_parameters(model: transformers.PreTrainedModel) -> list[Skipped]:
    """All other parameters, those of the same name in all layers as one entry; with the matrices they are the model."""
    taken = {matrix.name for matrix in quantizable_matrices(model)}
    counts: dict[tuple[str, str], int] = {}
    seen: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = seen.setdefault(id(parameter), name)
        if name in taken:
            continue
        key = re.sub(r"\.\d+\.", ".*.", name), _reason(model, name, parameter, first)
        counts[key] = counts.get(key, 0) + (parameter.numel() if first == name else 0)
    return [Skipped(name, reason, count) for (name, reason), count in counts.items()]


def read_weight(model: transformers.PreTrainedModel, matrix: Matrix) -> Float[Tensor, "out in"]:
    """The weight as contiguous float32 `[out, in]` on the CPU, as statistics and gradients are handed over.

    Not to be written to: it may be the parameter's own memory.
    """
    weight = parameter_of(model, matrix.name)
    return (weight.T if matrix.transposed else weight).to("cpu", torch.float32).contiguous()


def _linear_modules(model: transformers.PreTrainedModel) -> dict[str, nn.Module]:
    """Path -> module of every linear layer but the head, a weight that is used twice only where it comes first.

    The head of an encoder, which has no output embeddings, is whatever stands in no block.
    """
    avoided = {id(_weight(one)) for one in (model.get_output_embeddings(), model.get_input_embeddings())}
    modules: dict[str, nn.Module] = {}
    inside = re.compile(r"\.\d+\." if model.get_output_embeddings() is None else "")
    for path, module in model.named_modules():
        if not inside.search(path):
            continue
        if isinstance(module, (nn.Linear, transformers.Conv1D)) and id(module.weight) not in avoided:
            avoided.add(id(module.weight))
            modules[path] = module
    return modules


def _observe_sites(model: transformers.PreTrainedModel, modules: dict[str, nn.Module]) -> dict[str, str]:
    """Module path -> site, for the modules that run when a short sequence passes; the model is left as it was."""
    inputs: dict[str, Tensor] = {}  # held until all have been compared, so that no memory is used twice

    def note(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            inputs.setdefault(path, input_of(arguments, keywords))

        return hook

    hooks = [module.register_forward_pre_hook(note(path), with_kwargs=True) for path, module in modules.items()]
    try:
        ids = torch.arange(PROBE, device=model.device) % embedded_tokens(model)
        with torch.no_grad():
            model(input_ids=ids[None], use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()
    first_at: dict[tuple[object, ...], str] = {}
    order = [path for path in modules if path in inputs]
    return {path: first_at.setdefault(_place(inputs[path]), path) for path in order}


def input_of(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:
    """The tensor that a linear module was called with, given by position or by name."""
    return arguments[0] if arguments else next(iter(keywords.values()))


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor._version


def _describe(path: str, module: nn.Module, site: str) -> Matrix:
    weight, transposed = _weight(module), isinstance(module, transformers.Conv1D)
    rows, columns = reversed(weight.shape) if transposed else weight.shape
    numbers = re.findall(r"\.(\d+)\.", path)
    block = int(numbers[0]) if numbers else None
    return Matrix(f"{path}.weight", path, block, path.rpartition(".")[2], rows, columns, site, transposed)


def _weight(module: nn.Module | None) -> Any:
    return getattr(module, "weight", None)


def _reason(model: transformers.PreTrainedModel, name: str, parameter: nn.Parameter, first: str) -> str:
    if first != name:
        return f"shares its values with {first}, counted there"
    if parameter is _weight(model.get_input_embeddings()):
        return "embedding table: read row by row, not multiplied with"
    if parameter is _weight(model.get_output_embeddings()):
        return "output head: left in full precision, as in the papers"
    if parameter.ndim < 2:
        return "one-dimensional: a norm or a bias, small and sensitive"
    module = model.get_submodule(name.rpartition(".")[0])
    if isinstance(module, (nn.Linear, transformers.Conv1D)):
        if model.get_output_embeddings() is None:
            return "head of an encoder: left in full precision, as that of a language model"
        return f"its input cannot be observed: the module is not called when {PROBE} tokens pass"
    if parameter.ndim > 2:
        return f"{parameter.ndim} dimensions: not a single matrix"
    return f"part of a {type(module).__name__}, which is not a linear layer"
