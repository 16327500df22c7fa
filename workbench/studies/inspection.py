"""What is in a model and how large it is at each width: shapes only, nothing is computed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, skipped_parameters
from workbench.progress import Progress, Steps
from workbench.results import Result
from workbench.scheme import affine_stored_bits
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context

SHOWN_WIDTHS = (16, 8, 4, 3, 2)
GROUP_SIZE = 64


def inspection(loaded: LoadedModel, *, context: Context | None = None) -> Steps[Result]:
    """List the quantizable matrices, what is skipped and why, and sizes at 16, 8, 4, 3 and 2 bits (rtn, group 64)."""
    yield Progress(0, 1, "reading shapes")
    matrices = find_matrices(loaded)
    skipped = skipped_parameters(loaded.model)
    rest = 2 * (loaded.identity.parameters - sum(matrix.parameters for matrix in matrices))
    sizes = []
    for bits in SHOWN_WIDTHS:
        held = sum(_bytes(matrix, bits) for matrix in matrices)
        stored = 8 * held / sum(matrix.parameters for matrix in matrices)
        sizes.append({"bits": bits, "stored_bits": stored, "matrix_bytes": held, "total_bytes": held + rest})
    document = {
        "model": {**loaded.identity.to_json(), "digest": loaded.identity.digest, "context": loaded.context},
        "matrices": [
            {
                "name": matrix.name,
                "block": matrix.block,
                "role": matrix.role,
                "site": matrix.site,
                "shape": [matrix.rows, matrix.columns],
                "parameters": matrix.parameters,
            }
            for matrix in matrices
        ],
        "skipped": [{"name": s.name, "reason": s.reason, "parameters": s.parameters} for s in skipped],
        "sizes": [{"group_size": GROUP_SIZE, **size} for size in sizes],
    }
    return Result(document, {"matrices": pd.DataFrame([_row(matrix) for matrix in matrices])})


def _bytes(matrix: Matrix, bits: int) -> int:
    return round(matrix.parameters * affine_stored_bits(matrix.rows, matrix.columns, bits, GROUP_SIZE, False) / 8)


def _row(matrix: Matrix) -> dict[str, Any]:
    return {
        "matrix": matrix.name,
        "block": matrix.block,
        "role": matrix.role,
        "rows": matrix.rows,
        "columns": matrix.columns,
        "parameters": matrix.parameters,
        **{f"bytes_{bits}": _bytes(matrix, bits) for bits in SHOWN_WIDTHS},
    }
