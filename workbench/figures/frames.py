"""Rows of a table that meet a condition."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd


def keep(frame: pd.DataFrame, mask: Iterable[object]) -> pd.DataFrame:
    """The rows whose entry of the mask is true, with the index that they had."""
    held = mask if isinstance(mask, pd.Series) else pd.Series(list(mask), dtype=bool)
    return frame.take(held.to_numpy(dtype=bool).nonzero()[0])
