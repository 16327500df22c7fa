"""The quantized weights of a model that is larger than memory: on disk, one part of the run in memory at a time."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from workbench.errors import WorkbenchError, shown
from workbench.quantizers.driving import packing
from workbench.quantizers.driving.packing import Part
from workbench.quantizers.weight import QuantizedWeight
from workbench.settings import cache_folder


class WeightsOnDisk(Mapping[str, QuantizedWeight]):
    """Matrix name -> its quantized weight; the part that was read last is held.

    Its files lie in a folder of their own, which goes with it: those that a cache keeps may be removed at any time.

    Args:
        order: names of all matrices that will come, in the order of iteration.

    Attributes:
        shapes: matrix -> (out, in), of those that are there.
    """

    def __init__(self, order: list[str]) -> None:
        self._order = order
        self.shapes: dict[str, tuple[int, int]] = {}
        self._place: dict[str, Path] = {}
        self._last: tuple[Path, Part] | None = None
        try:
            (cache_folder() / "tmp").mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="quantized-", dir=cache_folder() / "tmp"))
        except OSError as error:
            raise WorkbenchError(
                f"quantized weights cannot be written to the folder {shown(str(cache_folder() / 'tmp'))} "
                f"({error.strerror}); free space there, or set WORKBENCH_CACHE to another folder"
            ) from error
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def add(self, part: Part, kept: Path | None) -> None:
        """Take a part over.

        Args:
            part: the part.
            kept: where it lies already; None for nowhere.

        Raises:
            WorkbenchError: it cannot be written.
        """
        path = self._folder / f"{len(set(self._place.values()))}.safetensors"
        with suppress(OSError):  # another file system, or one without links, or removed meanwhile
            if kept is not None:
                os.link(kept, path)
        if not path.is_file():
            packing.save(part, path)
        for name, weight in part.weights.items():
            self._place[name], self.shapes[name] = path, weight.shape

    def __getitem__(self, name: str) -> QuantizedWeight:
        path = self._place[name]
        if self._last is None or self._last[0] != path:
            self._last = None  # before the next one is read
            held = packing.load(path)
            if held is None:
                raise WorkbenchError(f"quantized weights {shown(path.name)} can no longer be read; quantize again")
            self._last = path, held
        return self._last[1].weights[name]

    def __contains__(self, name: object) -> bool:
        return name in self._place

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._order if name in self._place)

    def __len__(self) -> int:
        return len(self._place)
