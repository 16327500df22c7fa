"""The memory that tensors take while something runs: bytes alive at the same time, counted at their storages."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Counts, inside a `with` block, the bytes of the storages that operations make there and that are still held.

    The same for every run, unlike the memory of the process; what an operation uses inside itself is not seen.

    Attributes:
        peak: the most that was held at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._held: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_place(one) for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and _place(one) not in given | self._held.keys():
                storage, place = one.untyped_storage(), _place(one)
                self._held[place] = storage.nbytes()
                weakref.finalize(storage, self._held.pop, place, 0)
        self.peak = max(self.peak, sum(self._held.values()))
        return result


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
