"""Open an encoder as safely as a language model: a classifier of texts, or a bare encoder whose states stand for one.

Which of the two it is, `architectures` in config.json says; that attention looks both ways is tried on the model. A
bare encoder is built without the pooling layer that comes before some heads, because many folders do not hold its
weights and no mean of hidden states reads it. Left out: poolings other than the mean and the first token.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import nn

from workbench.errors import WorkbenchError, shown
from workbench.model.build import PROBE, build, embedded_tokens
from workbench.model.checks import read_config
from workbench.model.families import encoder, names_encoder, understood
from workbench.model.folders import open_folder
from workbench.model.load import LoadedModel, load, read
from workbench.model.tensor_files import StoredTensor, read_json, refuse

Pooling = Literal["mean", "cls"]
POOLING_FILE = Path("1_Pooling") / "config.json"
"""Where sentence encoders say how the states of the tokens become one vector."""


@dataclass
class LoadedEncoder(LoadedModel):
    """An encoder ready to be looked at; see `LoadedModel`.

    Attributes:
        labels: names of the classes in the order of the logits; empty for a bare encoder.
        exclusive: whether exactly one class is right, so that the logits have a softmax.
        pooling: how a bare encoder's folder makes one vector of a text: the mean over all tokens, or the first token.
    """

    labels: tuple[str, ...] = ()
    exclusive: bool = True
    pooling: Pooling = "mean"


def load_encoder(
    name: str, *, allow_download: bool = False, memory_limit: int | None = None, by_blocks: bool = False
) -> LoadedEncoder:
    """Open a folder that holds an encoder, by the names that `load` knows; arguments as of `load`.

    Raises:
        WorkbenchError: no such model, or a folder that is not a sound and safe encoder.
    """
    found = read(
        name, partial(build_encoder, memory_limit=memory_limit, by_blocks=by_blocks), allow_download=allow_download
    )
    held = {field.name: getattr(found, field.name) for field in fields(LoadedModel)}
    held["context"] = min(found.context, _usable_positions(found.model, found.context))
    config: Any = found.model.config
    if found.model.base_model is found.model:
        return LoadedEncoder(**held, pooling=_read_pooling(found.folder))
    several = config.problem_type == "multi_label_classification"
    labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    return LoadedEncoder(**held, labels=labels, exclusive=len(labels) > 1 and not several)


def load_any(
    name: str, *, allow_download: bool = False, memory_limit: int | None = None, by_blocks: bool = False
) -> LoadedModel:
    """Open an encoder where the folder holds one, else a language model; arguments as of `load`.

    Raises:
        WorkbenchError: as `load_encoder` and `load`.
    """
    folder = open_folder(name, allow_download=allow_download).path
    opened = load_encoder if names_encoder(folder, read_config(folder)) else load
    return opened(name, allow_download=allow_download, memory_limit=memory_limit, by_blocks=by_blocks)


def build_encoder(
    folder: Path,
    document: Mapping[str, Any],
    tensors: Mapping[str, StoredTensor],
    *,
    memory_limit: int | None = None,
    by_blocks: bool = False,
) -> transformers.PreTrainedModel:
    """The encoder of a folder, every weight checked; arguments as of `build.build_model`.

    Raises:
        WorkbenchError: another architecture, tensors that do not fit it, or attention that looks back only.
    """
    config, family = encoder(folder, document)
    parts = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(family).parameters else {}
    model = build(folder, config, family, tensors, memory_limit=memory_limit, by_blocks=by_blocks, **parts)
    _check_both_ways(folder, model)
    return model


def _check_both_ways(folder: Path, model: transformers.PreTrainedModel) -> None:
    """Try two sequences that differ in the last token: the state of the first token must notice."""
    ids = torch.arange(PROBE + 1) % embedded_tokens(model)
    tried = torch.stack([ids[:-1], torch.cat([ids[:-2], ids[-1:]])])
    with understood(folder), torch.no_grad():
        states = model.base_model(input_ids=tried)[0]
    if not torch.isfinite(states).all():
        raise WorkbenchError(f"model {shown(folder.name)} gives hidden states that are not finite")
    if torch.equal(states[0, 0], states[1, 0]):
        raise WorkbenchError(
            f"model {shown(folder.name)} is no encoder: what it makes of a token does not depend on later ones"
        )


def _usable_positions(model: nn.Module, context: int) -> int:
    """Positions without those that a table of them keeps for padding and before it (two in RoBERTa's kind)."""
    words = model.get_input_embeddings()  # type: ignore[operator]
    tables = [one for one in model.modules() if isinstance(one, nn.Embedding) and one is not words]
    kept = [one.padding_idx + 1 for one in tables if one.padding_idx is not None and one.num_embeddings == context]
    return context - max(kept, default=0)


def _read_pooling(folder: Path | None) -> Pooling:
    """What the folder says of pooling; the mean where it says nothing."""
    file = None if folder is None else folder / POOLING_FILE
    if file is None or not file.is_file():
        return "mean"
    document = read_json(file)
    marked = [key for key, on in document.items() if key.startswith("pooling_mode_") and on is True]
    said = document.get("pooling_mode")
    named = [said] if isinstance(said, str) else [key.removeprefix("pooling_mode_") for key in marked]
    modes: dict[str, Pooling] = {"mean_tokens": "mean", "mean": "mean", "cls_token": "cls", "cls": "cls"}
    if len(named) != 1 or named[0] not in modes:
        refuse(file, f"asks for the pooling {shown(' and '.join(named))}; mean and cls can be computed")
    return modes[named[0]]
