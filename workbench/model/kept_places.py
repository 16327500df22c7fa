"""What autograd keeps of weights that are read when they are needed: the place to read them from, not the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class _Place:
    """How to get a weight again."""

    def __init__(self, read: Callable[[], Tensor], view: Tensor) -> None:
        self._read = read
        self._form = view.shape, view.stride(), view.storage_offset()

    def again(self) -> Tensor:
        return self._read().as_strided(*self._form)


def kept_as_places(values: Mapping[str, Tensor], read: Callable[[str], Tensor]) -> Any:
    """A context in which autograd keeps places instead of these weights.

    Args:
        values: name -> weight.
        read: gives the weight of a name again.
    """
    names = {one.untyped_storage().data_ptr(): name for name, one in values.items()}

    def pack(tensor: Tensor) -> Any:
        name = names.get(tensor.untyped_storage().data_ptr())
        if name is None:
            return tensor.detach()  # itself, it would keep the graph alive that keeps it
        return _Place(lambda: read(name), tensor)

    def unpack(kept: Any) -> Tensor:
        return kept.again() if isinstance(kept, _Place) else kept

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
