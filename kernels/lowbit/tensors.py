"""A low-bit weight as named tensors and back: what a module registers, a file stores and an operator takes.

Names are `plane0`, `plane1`, `scale`, `zero` or `magnitude`; of a mixed weight `choice` and, say, `part1_scale`; of
outliers `values`, `columns` and `row_start`. All that is not a tensor stays with the weight that they are put back
into: these functions never guess a shape or a width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from lowbit.contract import PackedWeight
from lowbit.parts import BinaryWeight, MixedWeight, SparseWeight

Stored = TypeVar("Stored", bound=PackedWeight | BinaryWeight | MixedWeight | SparseWeight)


def tensors_of(weight: PackedWeight | BinaryWeight | MixedWeight | SparseWeight) -> dict[str, Tensor]:
    """Every tensor that a weight stores, by name."""
    if isinstance(weight, MixedWeight):
        named = {"choice": weight.choice}
        for place, part in enumerate(weight.parts):
            named |= {f"part{place}_{name}": tensor for name, tensor in tensors_of(part).items()}
        return named
    if isinstance(weight, SparseWeight):
        return {"values": weight.values, "columns": weight.columns, "row_start": weight.row_start}
    named = {f"plane{place}": plane for place, plane in enumerate(weight.planes)}
    if isinstance(weight, BinaryWeight):
        return named | {"magnitude": weight.magnitude}
    return named | {"scale": weight.scale} | ({} if weight.zero is None else {"zero": weight.zero})


def with_tensors(weight: Stored, tensors: Mapping[str, Tensor]) -> Stored:
    """The same weight with other tensors, named as `tensors_of` names them.

    Raises:
        LowbitError: a tensor does not fit the weight.
        KeyError: a tensor is missing.
    """
    if isinstance(weight, MixedWeight):
        parts = tuple(
            with_tensors(part, {name: tensors[f"part{place}_{name}"] for name in tensors_of(part)})
            for place, part in enumerate(weight.parts)
        )
        return replace(weight, parts=parts, choice=tensors["choice"])
    if isinstance(weight, SparseWeight):
        return replace(weight, **{name: tensors[name] for name in tensors_of(weight)})
    planes = tuple(tensors[f"plane{place}"] for place in range(len(weight.planes)))
    if isinstance(weight, BinaryWeight):
        return replace(weight, planes=planes, magnitude=tensors["magnitude"])
    return replace(weight, planes=planes, scale=tensors["scale"], zero=None if weight.zero is None else tensors["zero"])
