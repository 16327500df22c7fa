"""The cells of a sensitivity table: what each is about, under which key it is kept, and what is read from it.

A measured cell is kept window by window, so that more windows can be added, its loss and its divergence side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.texts import Windows
from workbench.scheme import Scheme
from workbench.studies.context import cell_key
from workbench.vocabulary import STUDY_VERSION

FIELDS = {"loss": "loss", "kl": "kl", "output-error": "output"}
"""Measure -> the field of a kept cell that holds it."""

Kept = dict[str, dict[str, Any]]
"""Key -> what is kept of a cell."""

PART_OF_NODES = {2: 0.75, 3: 0.75, 4: 0.5, 8: 0.25}
"""Width -> part of the points that its joint path needs."""

WHOLE = ("output", "joint-path", "second-order")
"""Kinds of cells that are one number for the whole text."""


@dataclass(frozen=True)
class Cell:
    """One matrix under one scheme.

    Attributes:
        matrix: the matrix.
        scheme: the scheme.
        key: content hash of all that the value depends on.
    """

    matrix: Matrix
    scheme: Scheme
    key: str


@dataclass(frozen=True)
class Reading:
    """What a table says of a cell: value and standard error, None where there is none, and the windows behind it."""

    value: float | None
    standard_error: float | None
    windows: int


def make_cells(
    loaded: LoadedModel, windows: Windows, matrices: Sequence[Matrix], schemes: Sequence[Scheme], kind: str, nodes: int
) -> list[Cell]:
    """All cells, matrix by matrix.

    Args:
        loaded: the model.
        windows: the calibration text.
        matrices: the rows of the table.
        schemes: one a width.
        kind: `isolated`, `spared`, or one of `WHOLE`.
        nodes: points of the path at most, for `joint-path` (`nodes_of`).
    """
    facts = _facts(loaded, windows, kind if kind in WHOLE else f"{kind}, by window")
    return [
        Cell(
            one,
            scheme,
            cell_key({**facts, **_points(scheme, kind, nodes), "matrix": one.name, "scheme": scheme.to_json()}),
        )
        for one in matrices
        for scheme in schemes
    ]


def _points(scheme: Scheme, kind: str, nodes: int) -> dict[str, Any]:
    return {"gauss": nodes_of(scheme.bits, nodes)} if kind == "joint-path" else {}


def nodes_of(bits: int | None, nodes: int) -> int:
    """Points of the joint path to a width: the path to a wide grid is short, and the loss along it hardly bends.

    Of 4 points by the Gauss-Legendre rule 3 at 2 and 3 bits, 2 at 4 and 1 at 8 bits miss the parts of many points by no
    more than 4 midpoints do.
    """
    return math.ceil(nodes * PART_OF_NODES.get(bits or 0, 1.0))


def reference_key(loaded: LoadedModel, windows: Windows) -> str:
    """Under which key the full model's loss on the text is kept."""
    return cell_key(_facts(loaded, windows, "reference"))


def _facts(loaded: LoadedModel, windows: Windows, kind: str) -> dict[str, Any]:
    return {
        "study": "sensitivity",
        "version": STUDY_VERSION,
        "model": loaded.identity.digest,
        "windows": windows.digest,
        "kind": kind,
    }


def read_cell(kept: Mapping[str, Any], field: str, count: int | None, of: int) -> Reading:
    """Mean of a kept cell and its standard error over windows.

    Args:
        kept: the cell.
        field: `loss`, `kl` or `output`.
        count: how many of its windows to use; None for all.
        of: windows of the text.
    """
    held = kept[field]
    if not isinstance(held, list):
        return Reading(_finite(held), _finite(kept.get(f"{field}_error")), of)
    used = held[:count]
    if not used or any(_finite(one) is None for one in used):
        return Reading(None, None, len(used))
    values = torch.tensor(used, dtype=torch.float64)
    error = float(values.std(correction=1)) / math.sqrt(len(used)) if len(used) > 1 else math.nan
    return Reading(float(values.mean()), _finite(error), len(used))


def row_of(cell: Cell, stored_bits: float, reading: Reading, window: int) -> dict[str, Any]:
    """A row of the table; columns as in `workbench.vocabulary`."""
    matrix, scheme = cell.matrix, cell.scheme
    return {
        "matrix": matrix.name,
        "block": matrix.block,
        "role": matrix.role,
        "bits": scheme.bits,
        "group_size": scheme.group_size,
        "quantizer": scheme.quantizer,
        "symmetric": scheme.symmetric,
        "parameters": matrix.parameters,
        "stored_bits": stored_bits,
        "value": reading.value,
        "standard_error": reading.standard_error,
        "tokens": reading.windows * window,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
