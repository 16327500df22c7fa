"""Statistics of many sites on disk, written and read site by site: the Gram matrices of a large model fill its memory.

The file is that of `Statistics.save`, which `Statistics.load` reads as well.
"""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workbench.errors import WorkbenchError, shown
from workbench.model.sites import LEVELS, SiteStatistics
from workbench.model.stored_weights import read_as_stored
from workbench.model.tensor_files import StoredTensor, read_header

TYPES = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
ENTRY = 240
"""Bytes of header that are set aside for a tensor, beside its name."""


class SitesWriter:
    """Writes a safetensors file tensor by tensor: the header is filled in at the end, into room left at the front.

    Args:
        path: the file; it appears when it is finished.
        sites: names of the sites that will come.

    Raises:
        WorkbenchError: the file cannot be written.
    """

    def __init__(self, path: Path, sites: list[str]) -> None:
        self.path = path
        self._room = 4096 + sum((len(LEVELS) + 1) * (ENTRY + len(json.dumps(site))) for site in sites)
        self._entries: dict[str, Any] = {}
        self._tokens: dict[str, int] = {}
        self._end = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
            self._partial = Path(partial)
            self._file: BinaryIO = os.fdopen(descriptor, "wb")
            self._file.seek(8 + self._room)
        except OSError as error:
            raise self._unwritable(error) from error

    def add(self, site: str, statistics: SiteStatistics) -> None:
        """Write one site.

        Raises:
            WorkbenchError: it cannot be written.
        """
        self._tokens[site] = statistics.tokens
        for name, tensor in statistics.tensors().items():
            self._write(f"{name}:{site}", tensor)

    def finish(self, fingerprint: str, form: str, sample_keys: Tensor) -> None:
        """Write the rest, and let the file appear.

        Raises:
            WorkbenchError: it cannot be written.
        """
        self._write("sample_keys", sample_keys)
        facts = {"format": form, "fingerprint": fingerprint, "tokens": json.dumps(self._tokens)}
        header = json.dumps({"__metadata__": facts, **self._entries}, separators=(",", ":")).encode()
        assert len(header) <= self._room
        try:
            self._file.seek(0)
            self._file.write(self._room.to_bytes(8, "little") + header.ljust(self._room))
            self._file.close()
            os.replace(self._partial, self.path)
        except OSError as error:
            raise self._unwritable(error) from error

    def discard(self) -> None:
        """Leave nothing behind, if the file has not been finished."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _write(self, key: str, tensor: Tensor) -> None:
        memory: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b""
        stop = self._end + tensor.nbytes
        self._entries[key] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [self._end, stop],
        }
        try:
            self._file.write(memory)
        except OSError as error:
            raise self._unwritable(error) from error
        self._end = stop

    def _unwritable(self, error: OSError) -> WorkbenchError:
        return WorkbenchError(
            f"the statistics cannot be written to the folder {shown(str(self.path.parent))} "
            f"({error.strerror or type(error).__name__}); free space there, or set WORKBENCH_CACHE to another folder"
        )


class SitesFile(Mapping[str, SiteStatistics]):
    """Site -> its statistics, read when asked for; the one that was asked for last is held.

    Args:
        path: the file.
        temporary: whether it goes when nobody uses this object any more.

    Attributes:
        facts: what the file says of itself.
        held: names of `LEVELS` that every site holds.

    Raises:
        WorkbenchError: the file cannot be read.
    """

    def __init__(self, path: Path, *, temporary: bool = False) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                self.facts: dict[str, str] = file.metadata() or {}
            self._tokens: dict[str, int] = json.loads(self.facts["tokens"])
            self._stored = read_header(path)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise WorkbenchError(f"statistics {shown(path.name)} cannot be read: {type(error).__name__}") from error
        names = [set(LEVELS) & {key.partition(":")[0] for key in self._keys(site)} for site in self._tokens]
        self.held: set[str] = set(LEVELS).intersection(*names)
        self._last: tuple[str, SiteStatistics] | None = None
        if temporary:
            weakref.finalize(self, path.unlink, missing_ok=True)

    def sample_keys(self) -> Tensor:
        """The keys of the sampled tokens."""
        return read_as_stored(self._stored["sample_keys"])

    def __getitem__(self, site: str) -> SiteStatistics:
        if self._last is None or self._last[0] != site:
            self._last = None  # before the next one is read
            parts: Any = {key.partition(":")[0]: read_as_stored(one) for key, one in self._keys(site).items()}
            self._last = site, SiteStatistics(tokens=self._tokens[site], **parts)
        return self._last[1]

    def __contains__(self, site: object) -> bool:
        return site in self._tokens

    def __iter__(self) -> Iterator[str]:
        return iter(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def _keys(self, site: str) -> dict[str, StoredTensor]:
        found = {f"{name}:{site}": self._stored.get(f"{name}:{site}") for name in LEVELS}
        return {key: stored for key, stored in found.items() if stored is not None}
