"""Tables of sensitivity from files: what `workbench sensitivity --out` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError


def read_cells(path: Path) -> dict[str, Any]:
    """A sensitivity document from a file that `workbench sensitivity --out` wrote; csv lacks the facts of the run.

    Raises:
        WorkbenchError: unreadable, or without cells.
    """
    import pandas as pd

    from workbench.results import finite

    shown = repr(str(path)[:80])
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    try:
        if path.suffix == ".json":
            document = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix in readers:
            frame = readers[path.suffix](path)
            facts = json.loads(frame.attrs.get("document", "{}"))
            document = {**facts, "cells": finite(frame.to_dict(orient="records"))}
        else:
            raise WorkbenchError(f"cells file {shown} has ending {path.suffix!r}; choose one of: .parquet, .csv, .json")
    except FileNotFoundError:
        raise WorkbenchError(f"cells file {shown} is not there") from None
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"cells file {shown} could not be read: {str(error).splitlines()[0][:120]}") from None
    if not isinstance(document, dict) or not document.get("cells"):
        raise WorkbenchError(
            f"cells file {shown} holds no cells; write one with `workbench sensitivity MODEL --out FILE`"
        )
    return document
