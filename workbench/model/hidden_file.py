"""Hidden states of many windows on disk: a memory-mapped file of known size that has no name and leaves none behind."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.settings import cache_folder


class HiddenFile(Sequence[Tensor]):
    """One tensor a batch, read as copies; a batch is mapped only while it is read or written.

    A mapping that stayed would count as memory of the process as far as it was touched.

    Args:
        shapes: shape of every batch.
        dtype: type of all.
        what: what is kept, as the subject of a sentence on too little room.
        fewer: what to use fewer of then.

    Raises:
        WorkbenchError: there is not so much room on the disk.
    """

    def __init__(
        self,
        shapes: Sequence[torch.Size],
        dtype: torch.dtype,
        what: str = "the hidden states between the blocks",
        fewer: str = "tokens",
    ) -> None:
        self._shapes, self._dtype = list(shapes), dtype
        self._starts, end = [], 0
        for shape in shapes:
            self._starts.append(end)
            pages = -(-max(1, shape.numel() * dtype.itemsize) // mmap.ALLOCATIONGRANULARITY)
            end += pages * mmap.ALLOCATIONGRANULARITY
        self.size = end
        self._file = _make_file(end, what, fewer)
        weakref.finalize(self, self._file.close)

    def like(self) -> HiddenFile:
        """Another file for batches of the same shapes."""
        return HiddenFile(self._shapes, self._dtype)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        mapped, values = self._map(place)
        copy = values.clone()
        del values
        mapped.close()
        return copy

    def __setitem__(self, index: int, states: Tensor) -> None:
        mapped, values = self._map(range(len(self))[index])
        values.copy_(states)
        del values
        mapped.close()

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def _map(self, index: int) -> tuple[mmap.mmap, Tensor]:
        shape = self._shapes[index]
        length = shape.numel() * self._dtype.itemsize
        mapped = mmap.mmap(self._file.fileno(), max(1, length), offset=self._starts[index])
        raw = torch.from_numpy(np.frombuffer(mapped, dtype=np.uint8, count=length))
        return mapped, raw.view(self._dtype).view(shape)


def _make_file(size: int, what: str, fewer: str) -> Any:
    folder = cache_folder() / "tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if size > free:
            raise _no_room(folder, size, what, fewer, f"{free / 2**30:.2f} GiB are free")
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (lives as long as its owner)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        raise _no_room(folder, size, what, fewer, error.strerror or type(error).__name__) from error
    return file


def _no_room(folder: Path, size: int, what: str, fewer: str, why: str) -> WorkbenchError:
    return WorkbenchError(
        f"{what} take {size / 2**30:.2f} GiB in the folder {str(folder)[-80:]!r}, where "
        f"{why}; free space there, set WORKBENCH_CACHE to another folder, or use fewer {fewer}"
    )
