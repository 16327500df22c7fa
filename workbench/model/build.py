"""From a checked folder to a model in memory: float32 on the CPU, frozen, and seen to be causal.

Weights are read here and handed to transformers as a state dict, so that it never looks into the folder itself: no
adapters, distributed checkpoints (their metadata is a pickle), file names of the configuration or downloads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workbench.errors import WorkbenchError, shown
from workbench.model.families import language_model, understood
from workbench.model.fit import fit_of, room_for_blocks
from workbench.model.stored_weights import check_finite
from workbench.model.streamed_build import build_streamed, layout_of
from workbench.model.tensor_files import StoredTensor, refuse

PROBE = 4  # tokens of the sequence that a model is tried on


def build_model(
    folder: Path,
    document: Mapping[str, Any],
    tensors: Mapping[str, StoredTensor],
    *,
    memory_limit: int | None = None,
    by_blocks: bool = False,
) -> transformers.PreTrainedModel:
    """The model of a folder, every weight checked.

    Args:
        folder: for messages only.
        document: its configuration, cleaned by `checks.read_config`.
        tensors: its stored tensors, by `tensor_files.stored_tensors`.
        memory_limit: bytes that the model and the work on it may take; a larger model is read block by block.
        by_blocks: read it so, also where it fits in memory.

    Raises:
        WorkbenchError: an unknown or unfit architecture, tensors that do not fit it, weights that are not finite, a
            limit that not even one block fits in.
    """
    config, family = language_model(folder, document)
    model = build(folder, config, family, tensors, memory_limit=memory_limit, by_blocks=by_blocks)
    _check_causal(folder, model)
    return model


def build(
    folder: Path,
    config: transformers.PreTrainedConfig,
    family: type[transformers.PreTrainedModel],
    tensors: Mapping[str, StoredTensor],
    *,
    memory_limit: int | None = None,
    by_blocks: bool = False,
    **parts: Any,
) -> transformers.PreTrainedModel:
    """A model of a class, every weight checked, frozen; nothing has run through it yet.

    Args:
        folder: for messages only.
        config: its configuration.
        family: its class.
        tensors: its stored tensors.
        memory_limit: as of `build_model`, as is `by_blocks`.
        parts: what its class is told to build or to leave out.

    Raises:
        WorkbenchError: tensors that do not fit it, weights that are not finite, too little memory.
    """
    attention = "sdpa" if family._supports_sdpa else "eager"
    config._attn_implementation = attention
    made = partial(family, config, **parts)
    skeleton = _skeleton(folder, config, made, len(tensors))
    _check_shapes(folder, skeleton, tensors)
    fit, held = fit_of(layout_of(skeleton), config), 4 * sum(tensor.numel for tensor in tensors.values())
    room = room_for_blocks(fit, held, folder.name, memory_limit, by_blocks=by_blocks)
    if room is not None:
        _check_left_out(folder, skeleton, tensors)
        return build_streamed(folder, made, tensors, room)
    weights = _read_weights(tensors)
    with understood(folder):
        loaded: Any = family.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
            local_files_only=True,
            **parts,
        )
    model, report = loaded
    _check_report(folder, model, report)
    return model.eval().requires_grad_(False)


def _understood_made(folder: Path, made: Callable[[], transformers.PreTrainedModel]) -> transformers.PreTrainedModel:
    with understood(folder):
        return made()


def embedded_tokens(model: transformers.PreTrainedModel) -> int:
    """Number of rows of the embedding table: ids must be smaller."""
    return len(cast(Tensor, model.get_input_embeddings().weight))


def _skeleton(
    folder: Path,
    config: transformers.PreTrainedConfig,
    made: Callable[[], transformers.PreTrainedModel],
    stored: int,
) -> transformers.PreTrainedModel:
    """The model that a configuration describes, without memory for its weights."""
    layers = getattr(config, "num_hidden_layers", 0)
    if not isinstance(layers, int) or layers > stored:  # an absurd number would take forever to build
        refuse(folder / "config.json", f"gives {shown(layers)} layers; the weight files hold {stored} tensors")
    with understood(folder), torch.device("meta"):
        return made()


def _check_shapes(folder: Path, skeleton: transformers.PreTrainedModel, tensors: Mapping[str, StoredTensor]) -> None:
    """Compare what the configuration asks for with what is stored, before memory is taken for either.

    Old checkpoints leave out the prefix of the inner model. Other names that transformers converts are left to it; the
    count of weights bounds what it can be made to allocate.
    """
    prefix = f"{skeleton.base_model_prefix}."
    asked = dict(skeleton.named_parameters())
    found = {name: tensors.get(name) or tensors.get(name.removeprefix(prefix)) for name in asked}
    for name, stored in found.items():
        given = list(asked[name].shape)
        if stored is not None and list(stored.shape) != given:
            refuse(stored.file, f"holds {shown(stored.name)} of shape {list(stored.shape)}; config.json gives {given}")
    total, held = sum(p.numel() for p in asked.values()), sum(tensor.numel for tensor in tensors.values())
    if total > held:
        absent = next((name for name, stored in found.items() if stored is None), "one")
        what = f"asks for {total} weights; the files hold {held}, and {shown(absent)} is missing"
        refuse(folder / "config.json", what)


def _read_weights(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """All tensors, floats as float32, in memory of their own: a file that changes later must not change the model."""
    weights: dict[str, Tensor] = {}
    for file, group in groupby(sorted(tensors.values(), key=lambda one: (one.file, one.start)), lambda one: one.file):
        try:
            with safe_open(file, framework="pt") as stored:
                weights |= {one.name: _own_copy(stored.get_tensor(one.name)) for one in group}
        except (SafetensorError, OSError) as error:
            refuse(file, f"cannot be read: {str(error)[:120]}")
    for name, tensor in weights.items():
        check_finite(tensor, tensors[name])
    return weights


def _own_copy(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()


def _check_report(folder: Path, model: torch.nn.Module, report: Mapping[str, Any]) -> None:
    """Refuse what transformers would only warn about: weights that it made up, or layers that it left out."""
    called, missing = shown(folder.name), sorted(report["missing_keys"])
    if missing:
        raise WorkbenchError(f"model {called} lacks {len(missing)} tensors of its configuration: {shown(missing[0])}")
    _check_left_out(folder, model, report["unexpected_keys"])


def _check_left_out(folder: Path, model: torch.nn.Module, names: Iterable[str]) -> None:
    """Refuse stored layers that the model has under other numbers only."""
    asked = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    known = {_any_layer(name) for name in asked}
    left_out = sorted(name for name in names if name not in asked and _any_layer(name) in known)
    if left_out:
        raise WorkbenchError(
            f"model {shown(folder.name)} holds layers that config.json leaves out: {shown(left_out[0])}"
        )


def _any_layer(name: str) -> str:
    """A parameter name with its layer numbers struck out."""
    return re.sub(r"\.\d+\.", ".*.", name)


def _check_causal(folder: Path, model: transformers.PreTrainedModel) -> None:
    """Try two sequences that differ in the last token: in a causal model, no earlier logit may notice."""
    ids = torch.arange(PROBE + 1) % embedded_tokens(model)
    tried = torch.stack([ids[:-1], torch.cat([ids[:-2], ids[-1:]])])
    with understood(folder), torch.no_grad():
        one, other = model(input_ids=tried, use_cache=False).logits[:, :-1]
    if not (torch.isfinite(one).all() and torch.isfinite(other).all()):
        raise WorkbenchError(f"model {shown(folder.name)} gives logits that are not finite")
    if (one - other).abs().max() > 1e-3 * one.abs().max():
        raise WorkbenchError(f"model {shown(folder.name)} is not causal: its logits at a token depend on later tokens")
