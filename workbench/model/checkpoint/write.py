"""Weights, configuration and tokenizer of a model in a folder, as transformers reads them."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices
from workbench.model.tensor_files import SINGLE

Tensors = dict[str, Tensor]
GENERATION = "generation_config.json"


def dense_tensors(loaded: LoadedModel, weights: Mapping[str, Tensor]) -> Tensors:
    """These matrices as the model holds them, in float32: a step times a whole number has more digits than 16 bits.

    Args:
        loaded: the model.
        weights: matrix name -> dense weight `[out, in]`.
    """
    transposed = {matrix.name: matrix.transposed for matrix in quantizable_matrices(loaded.model)}
    return {name: (one.T if transposed[name] else one).float().contiguous() for name, one in weights.items()}


def other_tensors(loaded: LoadedModel, replaced: Mapping[str, Any]) -> Tensors:
    """Everything else that the model stores, tied tensors once, in the type that it came in where that is exact."""
    stored = getattr(torch, loaded.identity.dtype)
    tied = loaded.model.all_tied_weights_keys
    held = loaded.model.state_dict()
    return {name: _narrowed(held[name], stored) for name in held if name not in tied and name not in replaced}


def _narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.contiguous()
    narrow = tensor.to(dtype)
    exact = torch.equal(narrow.to(tensor.dtype), tensor)
    return (narrow if exact else tensor).contiguous()


def write_checkpoint(
    folder: Path, loaded: LoadedModel, tensors: Mapping[str, Tensor], quantization: Mapping[str, Any] | None = None
) -> Path:
    """Write a model; its configuration asks for float32, so that a plain load computes what was measured here.

    Args:
        folder: an empty folder.
        loaded: the model whose configuration and tokenizer are written.
        tensors: all tensors of the file.
        quantization: the `quantization_config` of the configuration.

    Returns:
        The file of the weights.

    Raises:
        OSError: or `SafetensorError`, where a file cannot be written.
    """
    file = folder / SINGLE
    save_file(dict(tensors), file, metadata={"format": "pt"})
    file.chmod(folder.stat().st_mode & 0o666)  # safetensors makes files for their maker alone
    config = copy.deepcopy(loaded.model.config)
    config.architectures = [type(loaded.model).__name__]
    config.dtype = torch.float32
    if quantization is not None:
        config.quantization_config = dict(quantization)
    config.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    if loaded.folder is not None and (loaded.folder / GENERATION).is_file():
        shutil.copyfile(loaded.folder / GENERATION, folder / GENERATION)
    return file
