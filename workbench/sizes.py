"""Sizes as people write them: `500 MB`, `2G`, `4GiB`. No torch here."""

from __future__ import annotations

import re

from workbench.errors import WorkbenchError, shown

POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def parse_size(text: str, what: str) -> int:
    """Bytes of a size: `k`, `M`, `G` and `T` are powers of 1000, `KiB`, `MiB`, `GiB` and `TiB` of 1024.

    Args:
        text: the size, with or without a `B` at its end and a space before the unit; upper or lower case.
        what: what has this value, for the sentence.

    Raises:
        WorkbenchError: something else.
    """
    read = WRITTEN.fullmatch(text.strip())
    size = 0 if read is None else float(read[1]) * (1024 if read[3] else 1000) ** POWERS[read[2].lower()]
    if read is None or (read[3] and not read[2]) or size >= 2**63:
        raise WorkbenchError(f"{what} has value {shown(text)}; write a size such as 500 MB, 2 GB or 4GiB")
    return int(size)
