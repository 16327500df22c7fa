"""A sensitivity table between two others: what a plan really does lies between two ways of measuring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workbench.allocation.cells import rows_of

BLEND = "isolated and joint-path"
"""Way of measuring of a table between these two."""


def blend(first: Mapping[str, Any], second: Mapping[str, Any], part: float) -> dict[str, Any]:
    """A sensitivity document between two of one model, text and measure: `part` of the first one's values.

    A value that one of them does not know is not known; a cell that the second lacks is left out.

    Raises:
        WorkbenchError: a table is faulty.
    """
    other = {_place(row): row.get("value") for row in rows_of(second)}
    rows = []
    for row in rows_of(first):
        own, value = row.get("value"), other.get(_place(row), math.nan)
        if value is None or own is None:
            rows.append({**row, "value": None, "standard_error": None})
        elif not math.isnan(value):
            rows.append({**row, "value": part * own + (1 - part) * value, "standard_error": None})
    return {**first, "by": BLEND, "cells": rows}


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row is about."""
    return tuple(row.get(name) for name in ("matrix", "quantizer", "bits", "group_size", "symmetric"))
