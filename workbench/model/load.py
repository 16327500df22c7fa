"""Open a model safely, and say exactly which one it was.

Nothing is taken from the network unless a download is allowed, only safetensors are read, and no code of a repository
is ever run. Models run in float32 on the CPU.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import transformers

from workbench.errors import WorkbenchError, shown
from workbench.model.build import build_model, embedded_tokens
from workbench.model.checks import check_tokenizer_files, read_config
from workbench.model.fingerprint import config_sha256, tokenizer_sha256, weights_sha256
from workbench.model.folders import ModelFolder, open_folder
from workbench.model.streaming import is_streamed
from workbench.model.tensor_files import FLOAT_BYTES, StoredTensor, stored_tensors

DEFAULT_CONTEXT = 2048
"""Positions of a model that sets no limit of its own (no learned positions); the papers evaluate at this length."""

Build = Callable[[Path, Mapping[str, Any], Mapping[str, StoredTensor]], transformers.PreTrainedModel]
"""Folder, cleaned configuration and stored tensors -> a checked model."""

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Identity:
    """Which model a result belongs to; a path of this machine is no part of it.

    Attributes:
        id: `demo`, the folder's name or the hub id.
        revision: commit of a downloaded model.
        architecture: class name of the model.
        dtype: type of most of the stored weights; they are computed with in float32 in any case.
        config_sha256: over the configuration as canonical JSON.
        weights_sha256: by `fingerprint.HASH_RULE`.
        tokenizer_sha256: over the tokenizer files.
        parameters: number of weights, shared ones counted once.
    """

    id: str
    revision: str | None
    architecture: str
    dtype: str
    config_sha256: str
    weights_sha256: str
    tokenizer_sha256: str
    parameters: int

    @property
    def digest(self) -> str:
        """16 hex digits over configuration, weights and tokenizer."""
        whole = f"{self.config_sha256} {self.weights_sha256} {self.tokenizer_sha256}"
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON."""
        return asdict(self)


@dataclass
class LoadedModel:
    """A model ready to be looked at: float32, evaluation mode, no gradients for its weights.

    Attributes:
        model: the model; whoever changes it puts it back (`overlay`).
        tokenizer: its tokenizer.
        identity: which model it is.
        context: the longest sequence, tokens.
        folder: where it was read from; None for a model made in memory.
    """

    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    identity: Identity
    context: int
    folder: Path | None

    @property
    def streamed(self) -> bool:
        """Whether its blocks are read from the files whenever they run, instead of lying in memory."""
        return is_streamed(self.model)


def load(
    name: str, *, allow_download: bool = False, memory_limit: int | None = None, by_blocks: bool = False
) -> LoadedModel:
    """Open `demo`, a local model by name, a folder in Hugging Face format or, when allowed, a model of the hub.

    Args:
        name: which model.
        allow_download: whether it may be fetched.
        memory_limit: bytes that the model and the work on it may take; None for the memory that is free. A model that
            is too large for it is read block by block (`streaming`), and nothing else about it differs.
        by_blocks: read it block by block, also where it fits in memory.

    Raises:
        WorkbenchError: no such model, a folder that is not a sound and safe decoder-only language model, or a limit
            that not even one block fits in.
    """
    return read(
        name, partial(build_model, memory_limit=memory_limit, by_blocks=by_blocks), allow_download=allow_download
    )


def read(name: str, build: Build, *, allow_download: bool = False) -> LoadedModel:
    """Open a model that `build` makes of the folder, its configuration and its stored tensors.

    Raises:
        WorkbenchError: no such model, an unsafe or damaged folder, or whatever `build` refuses.
    """
    source = open_folder(name, allow_download=allow_download)
    document = read_config(source.path)
    check_tokenizer_files(source.path)
    tensors = stored_tensors(source.path)
    model = build(source.path, document, tensors)
    tokenizer = _read_tokenizer(source.path, embedded_tokens(model))
    return LoadedModel(
        model, tokenizer, _identify(source, model, tensors), _context(document, model.config, tokenizer), source.path
    )


def _read_tokenizer(folder: Path, vocabulary: int) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of a folder, whose ids must all have a row in the embedding table."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        largest = max(tokenizer.get_vocab().values(), default=-1)
    except Exception as error:  # each tokenizer class fails in its own way; the files are the cause
        why = " ".join(str(error).split())[:120]
        raise WorkbenchError(
            f"the tokenizer of model {shown(folder.name)} cannot be read: {type(error).__name__}: {why}"
        ) from error
    if not 0 <= largest < vocabulary:
        raise WorkbenchError(
            f"the tokenizer of model {shown(folder.name)} has ids up to {largest}; the model embeds {vocabulary} tokens"
        )
    return tokenizer


def _identify(
    source: ModelFolder, model: transformers.PreTrainedModel, tensors: Mapping[str, StoredTensor]
) -> Identity:
    sizes = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.numel if tensor.dtype in FLOAT_BYTES else 0
    return Identity(
        id=source.id,
        revision=source.revision,
        architecture=type(model).__name__,
        dtype=DTYPES.get(sizes.most_common(1)[0][0], "float32"),
        config_sha256=config_sha256(source.path),
        weights_sha256=weights_sha256(tensors, model.all_tied_weights_keys),
        tokenizer_sha256=tokenizer_sha256(source.path),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _context(
    document: Mapping[str, Any], config: transformers.PreTrainedConfig, tokenizer: transformers.PreTrainedTokenizerBase
) -> int:
    """The longest sequence: what the configuration says under any of its names, else the tokenizer, else a default."""
    named = [
        getattr(config, "max_position_embeddings", None),
        *(document.get(k) for k in ("max_seq_len", "seq_length")),
    ]
    said = next((int(value) for value in named if isinstance(value, int) and value > 0), None)
    if said is not None:
        return said
    limit = tokenizer.model_max_length  # a tokenizer without a limit says about 1e30
    return int(limit) if 0 < limit < 10**7 else DEFAULT_CONTEXT
