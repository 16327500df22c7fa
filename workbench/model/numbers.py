"""With what numbers a model computes: chosen from the environment, the processor and the model's files. No torch here.

`WORKBENCH_DTYPE` is `float32`, `bfloat16` or `auto`. Weights, sums and all between the layers are float32 in any case;
`bfloat16` rounds what goes into the products of linear layers (`devices.round_products`), which a CPU with AMX
multiplies several times as fast. `auto` does that where the CPU has AMX and the model's files have 200 MB or more:
small models gain nothing by it, and their results stay comparable with those of every other machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workbench.errors import unknown

DEVICE, DTYPE = "WORKBENCH_DEVICE", "WORKBENCH_DTYPE"
TYPES = ("auto", "float32", "bfloat16")
LARGE = 200_000_000
"""Bytes of a model's files from which `auto` takes bfloat16 where the CPU has AMX."""

AMX = {"amx_tile", "amx_bf16"}
"""What Linux calls the instructions, and all of it that is needed."""


@dataclass(frozen=True)
class Choice:
    """Something that was chosen, and why.

    Attributes:
        name: a device, or a type of numbers.
        reason: in words.
    """

    name: str
    reason: str


@lru_cache(maxsize=1)
def amx_flags() -> tuple[str, ...]:
    """The AMX instructions that this processor says it has; none where it says nothing (no Linux)."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(sorted(set(re.findall(r"\bamx_\w+", told))))


def choose_type(folder: Path | None, on_cpu: bool = True) -> Choice:
    """The numbers that go into the products of a model's linear layers.

    Args:
        folder: of the model; None for one that was made in memory, which counts as small.
        on_cpu: whether it runs on the CPU.

    Raises:
        WorkbenchError: `WORKBENCH_DTYPE` is none of the types.
    """
    asked = os.environ.get(DTYPE, "").strip().lower() or "auto"
    if asked not in TYPES:
        raise unknown(DTYPE, asked, TYPES)
    if asked != "auto":
        return Choice(asked, f"{DTYPE} says so")
    if not on_cpu:
        return Choice("float32", "results stay comparable with those of a CPU")
    if not set(amx_flags()) >= AMX:
        return Choice("float32", "this CPU has no AMX")
    if folder is None or file_bytes(folder) < LARGE:
        return Choice("float32", f"the model's files have less than {LARGE // 10**6} MB")
    return Choice("bfloat16", "this CPU has AMX")


def file_bytes(folder: Path) -> int:
    """Bytes of the weights of a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def key_facts_of_numbers(folder: Path | None) -> dict[str, str]:
    """What a result's key says of numbers: nothing for float32, so that results that come with the program are found.

    Raises:
        WorkbenchError: as `choose_type`.
    """
    if choose_type(folder).name == "float32":
        return {}
    return {"products": "bfloat16", "device": os.environ.get(DEVICE, "").strip().lower() or "auto"}
