"""Names of matrices for axes and hover boxes: short where that is clear, and shown literally."""

from __future__ import annotations

from collections import Counter

import pandas as pd

OUTSIDE = "outside"
"""Where a matrix is that belongs to no block."""


def literal(text: object) -> str:
    """Text for Plotly, which reads a small HTML of its own: `<b>` in a name is shown and changes nothing."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def role_labels(frame: pd.DataFrame) -> list[str]:
    """The role of every matrix, longer where a block has that role twice (`attn.c_proj` and `mlp.c_proj` of GPT-2).

    Args:
        frame: columns `matrix`, `block`, `role`, each matrix in one row.
    """
    places = list(zip(frame["block"].map(block_name), frame["role"], strict=True))
    twice = {role for (_, role), count in Counter(places).items() if count > 1}
    labels = [
        _with_parent(name) if role in twice else str(role)
        for name, role in zip(frame["matrix"], frame["role"], strict=True)
    ]
    clear = len(set(zip((block for block, _ in places), labels, strict=True))) == len(labels)
    return labels if clear else [str(name) for name in frame["matrix"]]


def block_name(block: object) -> str:
    """The index of a block as text, `OUTSIDE` for none."""
    return OUTSIDE if pd.isna(block) else str(int(block))  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]


def _with_parent(matrix: str) -> str:
    return ".".join(matrix.removesuffix(".weight").split(".")[-2:])
