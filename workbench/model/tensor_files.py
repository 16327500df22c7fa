"""The weight files of a folder: safetensors only, and every header checked before a byte of weights is read.

The format (huggingface/safetensors, README): 8 bytes little-endian length, a JSON header, then the tensors without
gaps. Pickled weights are refused whatever they hold, because reading a pickle can run code. No torch here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from workbench.errors import WorkbenchError, shown

MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 100_000
FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
BUFFER_BYTES = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
ITEM_BYTES = FLOAT_BYTES | BUFFER_BYTES
PICKLED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor in a file: `start` and `stop` are byte positions in the whole file."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def refuse(file: Path, what: str) -> NoReturn:
    """Raise the error for a bad file of a model folder; only the folder's name is told, not its path."""
    raise WorkbenchError(f"{shown(file.name)} of model {shown(file.parent.name)} {what}")


def read_json(file: Path, limit: int = 2**20) -> dict[str, Any]:
    """A JSON object of at most `limit` bytes.

    Raises:
        WorkbenchError: too large, unreadable, not JSON, or not an object.
    """
    try:
        with file.open("rb") as stream:
            held = stream.read(limit + 1)
    except OSError as error:
        refuse(file, f"cannot be read: {error.strerror}")
    if len(held) > limit:
        refuse(file, f"is larger than {limit} bytes")
    return _parse(file, held)


def _parse(file: Path, held: bytes) -> dict[str, Any]:
    try:
        document = json.loads(held)
    except (ValueError, RecursionError):
        refuse(file, "is not valid JSON")
    if not isinstance(document, dict):
        refuse(file, f"holds a JSON {type(document).__name__}, not an object")
    return document


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a model folder by name, headers checked.

    Raises:
        WorkbenchError: no safetensors, a missing shard, or a malformed file.
    """
    single = folder / SINGLE
    if single.is_file():
        return read_header(single)
    if (folder / INDEX).is_file():
        return _sharded(folder)
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLED)
    if pickled:
        refuse(
            folder / pickled[0],
            "is pickled, and no model.safetensors is there; only safetensors are read, pickles can run code",
        )
    raise WorkbenchError(f"model {shown(folder.name)} has no weights: neither {SINGLE} nor {INDEX} is there")


def _sharded(folder: Path) -> dict[str, StoredTensor]:
    index = folder / INDEX
    shard_of = read_json(index, MAX_HEADER_BYTES).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        refuse(index, "has no weight_map")
    if not _plain_names(shard_of):
        refuse(index, "names a shard that is not a plain file name ending in .safetensors")
    headers: dict[str, dict[str, StoredTensor]] = {}
    for shard in dict.fromkeys(shard_of.values()):
        if not (folder / shard).is_file():
            refuse(index, f"names the file {shown(shard)}, which is missing")
        headers[shard] = read_header(folder / shard)
    for name, shard in shard_of.items():
        if name not in headers[shard]:
            refuse(folder / shard, f"lacks the tensor {shown(name)} that the index promises")
    return {name: headers[shard][name] for name, shard in shard_of.items()}


def _plain_names(shard_of: Mapping[str, Any]) -> bool:
    """Whether every shard is a plain safetensors file name, so that an index cannot point out of its folder."""
    return all(
        isinstance(shard, str) and shard.endswith(".safetensors") and Path(shard).name == shard and "\0" not in shard
        for shard in shard_of.values()
    )


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file.

    Raises:
        WorkbenchError: the header or the offsets do not fit the file.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            refuse(file, f"is truncated: {size} bytes cannot hold a header of {length} bytes")
        if length > MAX_HEADER_BYTES:
            refuse(file, f"has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
        header = _parse(file, stream.read(length))
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        refuse(file, f"holds {len(header)} tensors; at most {MAX_TENSORS} are read")
    tensors = [_entry(file, name, entry, 8 + length) for name, entry in header.items()]
    end = 8 + length
    for tensor in sorted(tensors, key=lambda one: (one.start, one.stop)):
        if tensor.start != end:
            refuse(file, f"is malformed: tensor {shown(tensor.name)} starts at byte {tensor.start}, expected {end}")
        end = tensor.stop
    if end != size:
        refuse(file, f"is truncated or malformed: its tensors end at byte {end}, the file at {size}")
    return {tensor.name: tensor for tensor in tensors}


def _entry(file: Path, name: str, entry: Any, base: int) -> StoredTensor:
    """One header entry, offsets made absolute by adding `base`."""
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape", ()), fields.get("data_offsets", ())
    if not _natural(shape) or not _natural(offsets) or len(shape) > 8 or len(offsets) != 2:
        refuse(file, f"is malformed: tensor {shown(name)} has shape {shown(shape)} and offsets {shown(offsets)}")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        refuse(file, f"holds tensor {shown(name)} of type {shown(dtype)}; choose one of: {', '.join(ITEM_BYTES)}")
    tensor = StoredTensor(name, file, dtype, tuple(shape), base + offsets[0], base + offsets[1])
    if tensor.stop - tensor.start != tensor.numel * ITEM_BYTES[dtype]:
        refuse(
            file, f"is malformed: tensor {shown(name)} of shape {shown(shape)} has {tensor.stop - tensor.start} bytes"
        )
    return tensor


def _natural(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
