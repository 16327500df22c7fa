"""Hashes that say which model, configuration and tokenizer a result belongs to. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError, shown
from workbench.model.checks import TOKENIZER_EXTRAS, TOKENIZER_FILES
from workbench.model.folders import HUB_ID, cached_snapshot, find_folder
from workbench.model.tensor_files import StoredTensor, read_json

HASH_RULE = "sha256 over sorted (name, dtype, shape, sha256(bytes)) of the state dict as stored, tied tensors once"
CHUNK = 2**20


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's content; remembered in this process until its size or time changes."""
    state = path.stat()
    return _hash_file(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash_file(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical(document: Any) -> bytes:
    """JSON bytes that do not depend on key order or spacing."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def folder_digest(folder: Path) -> str:
    """Hex sha256 over names and contents of config.json, the safetensors files and the tokenizer files of a folder.

    Raises:
        WorkbenchError: the folder has no config.json, or a file cannot be read.
    """
    if not (folder / "config.json").is_file():
        raise WorkbenchError(f"folder {shown(folder.name)} is not a model: it has no config.json")
    files = {folder / "config.json", *folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")}
    files |= set(_tokenizer_files(folder))
    try:
        return hashlib.sha256(canonical({path.name: file_sha256(path) for path in files})).hexdigest()
    except OSError as error:
        raise WorkbenchError(f"model {shown(folder.name)} cannot be read: {error.strerror}") from error


def model_digest(name: str) -> str:
    """The digest of the model that a name means: of its folder, or of the id of a hub model that is not here yet.

    Raises:
        WorkbenchError: no such folder, and not a hub id either.
    """
    found = find_folder(name)
    folder = found.path if found is not None else cached_snapshot(name)
    if folder is not None:
        return folder_digest(folder)
    if not HUB_ID.fullmatch(name):
        raise WorkbenchError(f"model {shown(name)} is neither a folder nor a hub id such as 'owner/name'")
    return hashlib.sha256(f"hub:{name}".encode()).hexdigest()


def config_sha256(folder: Path) -> str:
    """Hex sha256 of the configuration as canonical JSON, so that spacing and key order do not matter."""
    return hashlib.sha256(canonical(read_json(folder / "config.json"))).hexdigest()


def tokenizer_sha256(folder: Path) -> str:
    """Hex sha256 over names and contents of the tokenizer files."""
    held = {path.name: file_sha256(path) for path in _tokenizer_files(folder)}
    return hashlib.sha256(canonical(held)).hexdigest()


def _tokenizer_files(folder: Path) -> list[Path]:
    return [folder / name for name in (*TOKENIZER_FILES, *TOKENIZER_EXTRAS) if (folder / name).is_file()]


def weights_sha256(tensors: Mapping[str, StoredTensor], tied: Mapping[str, str]) -> str:
    """Hex sha256 of the weights by `HASH_RULE`; it does not depend on how they are spread over files.

    Args:
        tensors: all stored tensors by name.
        tied: name -> the name that it shares its values with; left out when both are stored.
    """
    kept = [tensors[name] for name in sorted(tensors) if tied.get(name) not in tensors]
    rows = [[one.name, one.dtype, list(one.shape), _bytes_sha256(one)] for one in kept]
    return hashlib.sha256(canonical(rows)).hexdigest()


def _bytes_sha256(tensor: StoredTensor) -> str:
    digest = hashlib.sha256()
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        left = tensor.stop - tensor.start
        while left:
            chunk = stream.read(min(CHUNK, left))
            if not chunk:  # the file shrank since its header was read
                raise WorkbenchError(f"{shown(tensor.file.name)} changed while it was read; try again")
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
