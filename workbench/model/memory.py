"""Memory is estimated before it is taken, and refused with numbers when it is not there. No torch here."""

from __future__ import annotations

import psutil

from workbench.errors import WorkbenchError


def require_memory(needed: int, purpose: str) -> None:
    """Refuse work that would not fit in the memory that is free now.

    Args:
        needed: bytes that the work will hold at once.
        purpose: what needs them, as the subject of the sentence.

    Raises:
        WorkbenchError: less is available.
    """
    available = psutil.virtual_memory().available
    if needed > available:
        raise WorkbenchError(
            f"{purpose} needs {needed / 2**30:.2f} GiB of memory; {available / 2**30:.2f} GiB are free"
        )
