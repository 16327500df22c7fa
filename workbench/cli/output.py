"""Results on stdout and in files: a file is whole or not there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.results import Result

ENDINGS = (".csv", ".parquet", ".json")


def check_out(path: Path | None) -> None:
    """Refuse an output file that cannot be written, before anything is computed.

    Raises:
        WorkbenchError: another ending, or a folder that is not there or not writable.
    """
    if path is None:
        return
    if path.suffix not in ENDINGS:
        raise WorkbenchError(f"--out has value {str(path)[:80]!r}; its ending must be one of: {', '.join(ENDINGS)}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise WorkbenchError(f"--out has value {str(path)[:80]!r}; its folder is not there or cannot be written to")


def deliver(result: Result, table: str, *, as_json: bool, out: Path | None) -> None:
    """Print a result and write it; `table` is what csv, parquet and people get."""
    if out is not None:
        write(result, table, out)
    if as_json:
        from workbench.results import dumps

        print(dumps(result.document))
    elif out is None:
        print_for_people(result, table)
    else:
        print(f"written to {out}", file=sys.stderr)


def write(result: Result, table: str, path: Path) -> None:
    """Write a result as the ending of the file says."""
    from workbench.results import dumps

    frame = result.tables[table]
    # the facts of the run travel inside a parquet file: model digest, text, window
    frame.attrs = {"document": dumps({k: v for k, v in result.document.items() if k not in ("cells", "matrices")})}
    writers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda to: to.write_text(dumps(result.document) + "\n", encoding="utf-8"),
        ".csv": lambda to: frame.to_csv(to, index=False),
        ".parquet": lambda to: frame.to_parquet(to, index=False),
    }
    put_file("the result", path, writers[path.suffix])


def put_file(what: str, path: Path, write_to: Callable[[Path], Any]) -> None:
    """Write to a temporary name first, then rename, so that a full disk leaves no half file.

    Raises:
        WorkbenchError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        write_to(partial)
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)[:120]
        where = str(path) if len(str(path)) <= 80 else f"...{str(path)[-77:]}"
        raise WorkbenchError(f"{what} could not be written to {where!r}: {reason}") from error
    finally:
        with suppress(OSError):  # gone already; or a read-only folder, which refuses this too and holds no remains
            partial.unlink()


def print_for_people(result: Result, table: str) -> None:
    """The table, then the single numbers of the document."""
    print(result.tables[table].to_string(index=False, float_format=lambda value: f"{value:.5g}"))
    print()
    for key, value in result.document.items():
        if isinstance(value, float):
            print(f"{key}: {value:.6g}")
        elif isinstance(value, (int, str)):
            print(f"{key}: {value}")
