"""What a study returns, and how it lies on disk: one JSON document for people and tools, tidy tables for charts."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

FORMAT = 1
DOCUMENT = "result.json"
"""Name of the file that holds the document."""


@dataclass(frozen=True)
class Result:
    """The outcome of a study.

    Attributes:
        document: the JSON that the command line prints (keys of the CLI contract), every number finite or null.
        tables: tidy tables by name, columns from `workbench.vocabulary`.
        files: safetensors files to be handed over, by name: their bytes, or where they lie once they are saved.
    """

    document: dict[str, Any]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    files: dict[str, bytes | Path] = field(default_factory=dict)

    def file(self, name: str) -> bytes:
        """The content of one of the files."""
        held = self.files[name]
        return held.read_bytes() if isinstance(held, Path) else held


def finite(value: Any) -> Any:
    """The value as JSON can hold it: no NaN or Infinity, lists for tuples, plain numbers for numpy's."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(document: Any) -> str:
    """Strict JSON text: no NaN, no Infinity."""
    return json.dumps(finite(document), allow_nan=False, ensure_ascii=False)


def save(result: Result, folder: Path) -> None:
    """Write a result so that it is either whole or absent: to a temporary folder first, then one rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        (partial / DOCUMENT).write_text(dumps({"format": FORMAT, "document": result.document}), encoding="utf-8")
        for name, table in result.tables.items():
            table.to_parquet(partial / f"{name}.parquet", index=False)
        for name in result.files:
            (partial / name).write_bytes(result.file(name))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def load(folder: Path, read: Callable[[Path], pd.DataFrame] = pd.read_parquet) -> Result | None:
    """Read a result, or None when there is none, or one of another format (it is computed again then).

    Args:
        folder: of the result.
        read: reads one of its tables.
    """
    try:
        held = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        if held.get("format") != FORMAT:
            return None
        tables = {path.stem: read(path) for path in sorted(folder.glob("*.parquet"))}
    except (OSError, ValueError):
        return None
    return Result(held["document"], tables, {path.name: path for path in sorted(folder.glob("*.safetensors"))})
