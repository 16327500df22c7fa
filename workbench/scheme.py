"""A scheme: which quantizer at which width, for one matrix or for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError

WIDTHS = (1, 2, 3, 4, 8)
GROUP_SIZES = (32, 64, 128, -1)
UNTOUCHED = 16


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a matrix is quantized.

    Attributes:
        quantizer: name in the registry.
        bits: 1, 2, 3, 4 or 8; 16 leaves the matrix as it is; None for quantizers of fixed width.
        group_size: input columns that share a scale: 32, 64, 128, or -1 for the whole row.
        symmetric: no zero point.
        options: the quantizer's own options.
    """

    quantizer: str = "rtn"
    bits: int | None = 4
    group_size: int = 64
    symmetric: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse widths and group sizes that no kernel has."""
        if self.bits is not None and self.bits not in (*WIDTHS, UNTOUCHED):
            raise WorkbenchError(
                f"bits has value {self.bits!r}; choose one of: 1, 2, 3, 4, 8 (16 leaves a matrix as it is)"
            )
        if self.group_size not in GROUP_SIZES:
            raise WorkbenchError(
                f"group size has value {self.group_size!r}; choose one of: 32, 64, 128, -1 (a whole row)"
            )

    @property
    def label(self) -> str:
        """A short name for tables and charts, such as `rtn 4 bit g64`."""
        width = "fixed width" if self.bits is None else f"{self.bits} bit"
        group = "row" if self.group_size == -1 else f"g{self.group_size}"
        return f"{self.quantizer} {width} {group}{' symmetric' if self.symmetric else ''}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, in a fixed key order."""
        return {
            "quantizer": self.quantizer,
            "bits": self.bits,
            "group_size": self.group_size,
            "symmetric": self.symmetric,
            "options": dict(sorted(self.options.items())),
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Scheme:
        """Read what `to_json` wrote.

        Raises:
            WorkbenchError: unknown keys or values.
        """
        known = {"quantizer", "bits", "group_size", "symmetric", "options"}
        strange = sorted(set(document) - known)
        if strange:
            raise WorkbenchError(f"a scheme has no field {strange[0]!r}; its fields are: {', '.join(sorted(known))}")
        return Scheme(**document)


def affine_stored_bits(rows: int, columns: int, bits: int, group_size: int, symmetric: bool) -> float:
    """Stored bits per weight of an affine grid, from the shape alone: codes, fp16 scales and 16-bit zero points.

    A short last group is stored at its own length; each plane of a group is rounded up to bytes. `lowbit` holds exactly
    this many bytes (a test compares the two), so that sizes can be shown before anything is computed.
    """
    if bits == UNTOUCHED:
        return float(UNTOUCHED)
    group = columns if group_size == -1 else group_size
    full, rest = divmod(columns, group)
    planes = (2, 1) if bits == 3 else (bits,)
    code_bytes = sum(full * math.ceil(group * plane / 8) + math.ceil(rest * plane / 8) for plane in planes)
    scale_bytes = (full + (rest > 0)) * (2 if symmetric else 4)
    return 8.0 * (code_bytes + scale_bytes) / columns
