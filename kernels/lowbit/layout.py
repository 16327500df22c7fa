"""A low-bit weight as plain tensors and one line of text, which is what an operator of `torch.library` can take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from lowbit.contract import PackedWeight
from lowbit.parts import BinaryWeight, MixedWeight, SparseWeight, Weight
from lowbit.tensors import tensors_of


def layout_of(weight: Weight) -> str:
    """All of a weight that is not a tensor."""
    return json.dumps(_described(weight))


def tensors_in_order(weight: Weight) -> list[Tensor]:
    """Its tensors in the order in which `weight_from` takes them."""
    return list(tensors_of(weight).values())


def weight_from(layout: str, tensors: Sequence[Tensor]) -> Weight:
    """The weight again."""
    left = list(tensors)
    weight = _built(_read(layout), left)
    assert not left, "more tensors than the layout names"
    return weight


def sparse_from(tensors: Sequence[Tensor], shape: tuple[int, int]) -> SparseWeight | None:
    """Outliers from their three tensors; None when there are none."""
    return SparseWeight(tensors[0], tensors[1], tensors[2], shape) if tensors else None


@lru_cache(maxsize=4096)
def _read(layout: str) -> dict[str, Any]:
    return json.loads(layout)


def _described(weight: Weight) -> dict[str, Any]:
    if isinstance(weight, MixedWeight):
        return {"shape": weight.shape, "unit": weight.unit, "parts": [_described(part) for part in weight.parts]}
    if isinstance(weight, BinaryWeight):
        return {"shape": weight.shape, "group": weight.group_size, "kind": weight.kind}
    described = {"shape": weight.shape, "group": weight.group_size, "bits": weight.bits}
    return described | {"symmetric": weight.symmetric}


def _built(described: dict[str, Any], left: list[Tensor]) -> Any:
    """A weight from its description, its tensors taken from the front of `left`."""
    rows, columns = described["shape"]
    if "parts" in described:
        choice = left.pop(0)
        parts = tuple(_built(part, left) for part in described["parts"])
        return MixedWeight(parts, choice, described["unit"], (rows, columns))
    if "kind" in described:
        planes = tuple(left.pop(0) for _ in range(1 if described["kind"] == "plain" else 2))
        return BinaryWeight(planes, left.pop(0), (rows, columns), described["group"], described["kind"])
    planes = tuple(left.pop(0) for _ in range(2 if described["bits"] == 3 else 1))
    scale = left.pop(0)
    zero = None if described["symmetric"] else left.pop(0)
    bits, symmetric = described["bits"], described["symmetric"]
    return PackedWeight(planes, scale, zero, (rows, columns), bits, described["group"], symmetric)
