"""What a person may ask for: a mean of stored bits per weight, or bytes of a whole file; one becomes the other."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workbench.errors import WorkbenchError, shown

UNITS = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


@dataclass(frozen=True, slots=True)
class Request:
    """A budget as it was asked for.

    Attributes:
        kind: `bits_per_weight` or `file_bytes`.
        requested: in that unit.
        bits: the same as a mean of stored bits per weight over the matrices, which is what solvers take.
        other_bytes: bytes of the parameters that no plan touches, where they count.
    """

    kind: Literal["bits_per_weight", "file_bytes"]
    requested: float
    bits: float
    other_bytes: int | None = None


def bits_request(bits: float) -> Request:
    """A mean of stored bits per weight."""
    return Request("bits_per_weight", bits, bits)


def file_request(text: str, inspected: Mapping[str, Any]) -> Request:
    """The bytes of all weights in one file, such as `450KB`: the matrices as stored, all else in 16 bits.

    The file's own header (some kilobytes of names and shapes) is not counted.

    Args:
        text: a number with B, KB, MB, GB (powers of 1000) or KiB, MiB, GiB (powers of 1024).
        inspected: the document of `inspect`.

    Raises:
        WorkbenchError: no size, or less than what stays in 16 bits takes.
    """
    size, numel = read_size(text), sum(matrix["parameters"] for matrix in inspected["matrices"])
    other = inspected["sizes"][0]["total_bytes"] - inspected["sizes"][0]["matrix_bytes"]
    if size <= other:
        raise WorkbenchError(
            f"a file of {shown(text)} leaves nothing for the matrices: embeddings and norms alone take {other:,} bytes "
            "in 16 bits"
        )
    return Request("file_bytes", size, 8 * (size - other) / numel, other)


def read_size(text: str) -> float:
    """Bytes from a text such as `450KB` or `1.5GiB`.

    Raises:
        WorkbenchError: no such text.
    """
    found = _SIZE.fullmatch(str(text))
    if found is None or found[2].lower() not in UNITS or not math.isfinite(float(found[1])):
        raise WorkbenchError(
            f"the size {shown(text)} is not understood; write a number with KB, MB, GB or KiB, MiB, GiB"
        )
    return float(found[1]) * UNITS[found[2].lower()]
