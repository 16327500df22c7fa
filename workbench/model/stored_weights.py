"""Weights read from safetensors files at the moment they are asked for, by the names that a model's parameters have.

Files are read with plain reads and closed again. A mapped file would leave its pages in the process's resident memory,
and the last user of a tensor would decide how long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError, shown
from workbench.model.stored_names import StoredNames
from workbench.model.tensor_files import FLOAT_BYTES, StoredTensor, refuse

AT_ONCE = 4_000_000
"""Numbers that are looked at or turned to float32 at once."""

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_tensor(stored: StoredTensor) -> Tensor:
    """A tensor in memory of its own; floats as float32, so much of it at a time that nothing large lies there twice.

    Raises:
        WorkbenchError: the file cannot be read, or has become shorter.
    """
    if stored.dtype not in FLOAT_BYTES or stored.dtype == "F32":
        return read_as_stored(stored)
    wide = torch.empty(stored.numel, dtype=torch.float32)
    narrow = torch.empty(min(AT_ONCE, stored.numel), dtype=TYPES[stored.dtype])
    with _opened(stored) as file:
        for piece in wide.split(AT_ONCE):
            part = narrow[: len(piece)]
            _fill(file, part, stored)
            piece.copy_(part)
    return wide.reshape(stored.shape)


def read_as_stored(stored: StoredTensor) -> Tensor:
    """A tensor in memory of its own and of its own type.

    Raises:
        WorkbenchError: the file cannot be read, or has become shorter.
    """
    tensor = torch.empty(stored.shape, dtype=TYPES[stored.dtype])
    with _opened(stored) as file:
        _fill(file, tensor, stored)
    return tensor


@contextmanager
def _opened(stored: StoredTensor) -> Iterator[FileIO]:
    """The file, at the tensor's first byte."""
    try:
        with stored.file.open("rb", buffering=0) as file:
            file.seek(stored.start)
            yield file
    except OSError as error:
        refuse(stored.file, f"cannot be read: {error.strerror}")


def _fill(file: FileIO, tensor: Tensor, stored: StoredTensor) -> None:
    memory: Any = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b""
    left = memoryview(memory)
    while len(left):
        count = file.readinto(left)
        if not count:
            refuse(stored.file, f"has become shorter than its header says: {shown(stored.name)} ends too early")
        left = left[count:]


def check_finite(tensor: Tensor, stored: StoredTensor) -> None:
    """Refuse weights that are no numbers.

    Raises:
        WorkbenchError: a value is NaN or infinite.
    """
    for piece in tensor.reshape(-1).split(AT_ONCE):
        fine = torch.isfinite(piece)
        if not fine.all():
            bad = piece[~fine][0].item()
            refuse(stored.file, f"holds tensor {shown(stored.name)} with the value {bad}; weights must be finite")


@dataclass(frozen=True)
class _State:
    """By which a file is known again."""

    size: int
    changed: int

    @staticmethod
    def of(file: Path) -> _State:
        try:
            found = file.stat()
        except OSError as error:
            refuse(file, f"cannot be read: {error.strerror}")
        return _State(found.st_size, found.st_mtime_ns)


class StoredWeights:
    """Parameter name -> its values, read anew each time.

    Args:
        tensors: parameter name -> where it is stored.

    Raises:
        WorkbenchError: a file cannot be looked at.
    """

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        self._tensors = dict(tensors)
        self._states = {file: _State.of(file) for file in {one.file for one in tensors.values()}}

    def read(self, name: str) -> Tensor:
        """The values, float32, laid out as the model stores them.

        Raises:
            WorkbenchError: the file has changed since the model was opened, or cannot be read.
        """
        stored = self._tensors[name]
        if _State.of(stored.file) != self._states[stored.file]:
            refuse(stored.file, "has changed since the model was opened; open it again")
        return read_tensor(stored)

    def bytes_of(self, names: Iterable[str]) -> int:
        """Memory that these parameters take in float32."""
        return sum(4 * self._tensors[name].numel for name in names)


def find_stored(shapes: Mapping[str, torch.Size], stored: StoredNames, called: str) -> dict[str, StoredTensor]:
    """Where each parameter is stored as it is.

    Args:
        shapes: parameter name -> its shape.
        stored: by `stored_names.names_in`.
        called: name of the model.

    Raises:
        WorkbenchError: one is missing, of another shape, or made of stored tensors when a model is loaded.
    """
    absent = sorted(name for name in shapes if name not in stored.plain)
    made = [name for name in absent if name in stored.converted]
    if absent:
        why = "are put together of other tensors when the model is loaded" if made else "are not in the files"
        raise WorkbenchError(
            f"model {shown(called)} cannot be read block by block: {len(made or absent)} of its parameters, such as "
            f"{shown((made or absent)[0])}, {why}; give it more memory, so that it is loaded whole"
        )
    for name, shape in shapes.items():
        one = stored.plain[name]
        if tuple(one.shape) != tuple(shape):
            refuse(one.file, f"holds {shown(one.name)} of shape {list(one.shape)}; config.json gives {list(shape)}")
    return {name: stored.plain[name] for name in shapes}
