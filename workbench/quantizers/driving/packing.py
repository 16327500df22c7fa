"""Quantized weights on disk: every tensor and number of them in one safetensors file, to be built again bit by bit.

A weight is a dataclass of tensors, plain values, low-bit weights and other quantized weights. It is taken apart by its
fields and put together by its class, so that a new kind of weight needs no code here.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import lowbit
from workbench.errors import WorkbenchError, shown
from workbench.quantizers.weight import QuantizedWeight

FORMAT = "1"
LOWBIT = (lowbit.PackedWeight, lowbit.BinaryWeight, lowbit.MixedWeight, lowbit.SparseWeight)


@dataclass(frozen=True, eq=False)
class Part:
    """What was made in one go: a block, say.

    Attributes:
        weights: matrix -> quantized weight.
        notes: matrix -> what had to be changed to get it, such as a raised damping.
    """

    weights: dict[str, QuantizedWeight]
    notes: dict[str, str]


def save(part: Part, path: Path) -> None:
    """Write a part, whole or not at all.

    Raises:
        WorkbenchError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    layout = {name: _apart(weight, name, tensors) for name, weight in part.weights.items()}
    facts = {"format": FORMAT, "layout": json.dumps(layout), "notes": json.dumps(part.notes)}
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
        os.close(descriptor)
        # clones, because a file does not hold two tensors that share memory
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, partial, metadata=facts)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
        raise WorkbenchError(f"quantized weights {shown(path.name)} cannot be written: {shown(error, 120)}") from error


def load(path: Path) -> Part | None:
    """Read what `save` wrote; None where there is nothing, or nothing that can be read: it is made again then."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if facts.get("format") != FORMAT:
            return None
        layout = json.loads(facts["layout"])
        weights = {name: _together(held, tensors) for name, held in layout.items()}
        return Part(weights, json.loads(facts["notes"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _apart(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON; its tensors go into `tensors` under their place."""
    if isinstance(value, Tensor):
        tensors[place] = value
        return {"tensor": place}
    if is_dataclass(value):
        held = {one.name: _apart(getattr(value, one.name), f"{place}/{one.name}", tensors) for one in fields(value)}
        return {"class": type(value).__name__, "fields": held}
    if isinstance(value, tuple):
        return {"tuple": [_apart(item, f"{place}/{index}", tensors) for index, item in enumerate(value)]}
    return {"value": value}


def _together(held: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    if "tensor" in held:
        return tensors[held["tensor"]]
    if "tuple" in held:
        return tuple(_together(item, tensors) for item in held["tuple"])
    if "class" in held:
        values = {name: _together(value, tensors) for name, value in held["fields"].items()}
        return _classes()[held["class"]](**values)
    return held["value"]


def _classes() -> dict[str, type]:
    """Every kind of weight by its name."""
    found, left = dict[str, type](), [QuantizedWeight]
    while left:
        one = left.pop()
        found[one.__name__] = one
        left += one.__subclasses__()
    return found | {one.__name__: one for one in LOWBIT}
