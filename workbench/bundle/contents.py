"""Whether the files of a bundle are what their endings say: strict JSON, parquet of plain columns, safetensors.

Digests say that a file is the one that was packed, not that it can be read. Parquet is read by pyarrow alone, and only
columns of plain values are taken: extension types may name code to run when they are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench import results
from workbench.bundle.strict import CELLS, HASH, Fault, parse_json
from workbench.errors import WorkbenchError, shown
from workbench.model.tensor_files import read_header

MOST_VALUES = 20_000_000
"""Most values of one table: repeated ones take next to nothing in the file and all of it in memory."""

TABLE_BYTES = 2**30
JSON_LIMIT = 256 * 2**20
PLAIN = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_timestamp,
    pa.types.is_null,
)


def check_contents(folder: Path, names: list[str]) -> dict[str, Any]:
    """Read every file of an extracted bundle; returns its cells, key -> value.

    Raises:
        Fault: one of them is not what it should be.
    """
    for name in names:
        path = folder / name
        if name.endswith(".parquet"):
            _check_table(path, name)
        elif name.endswith(".safetensors"):
            _check_tensors(path, name)
        elif name != CELLS:
            _check_document(path, name)
    return _cells(folder / CELLS) if CELLS in names else {}


def _check_table(path: Path, name: str) -> None:
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(file, name)
            texts = [column.name for column in file.schema_arrow if _is_text(column.type)]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            table = file.read()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise Fault(f"its table {shown(name)} is no parquet file that can be read") from error
    if _text_bytes(table) > TABLE_BYTES:
        raise Fault(f"its table {shown(name)} holds more than {TABLE_BYTES:,} bytes of text")


def _check_columns(file: pq.ParquetFile, name: str) -> None:
    """Types and declared sizes, before a value is read."""
    facts = file.metadata
    groups = [facts.row_group(place) for place in range(facts.num_row_groups)]
    values = sum(group.column(place).num_values for group in groups for place in range(group.num_columns))
    if values > MOST_VALUES or sum(group.total_byte_size for group in groups) > TABLE_BYTES:
        raise Fault(f"its table {shown(name)} has {values:,} values; at most {MOST_VALUES:,} are read")
    for column in file.schema_arrow:
        if not _is_plain(column.type):
            raise Fault(f"its table {shown(name)} has column {shown(column.name)} of type {column.type}")


def _text_bytes(table: pa.Table) -> int:
    """Bytes of all texts in memory; a text that is repeated lies in the file, and in this table, only once."""
    total = 0
    for column in table.columns:
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
            lengths = pc.call_function("binary_length", [chunk.dictionary])
            total += pc.call_function("sum", [lengths.take(chunk.indices)]).as_py() or 0
    return total


def _is_plain(kind: pa.DataType) -> bool:
    """Numbers, truth values, times and texts, and lists of all but texts."""
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return any(is_one(kind.value_type) for is_one in PLAIN)
    return _is_text(kind) or any(is_one(kind) for is_one in PLAIN)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _check_tensors(path: Path, name: str) -> None:
    try:
        read_header(path)
    except (WorkbenchError, ValueError) as error:
        raise Fault(f"{shown(name)} is no safetensors file that can be read") from error


def _check_document(path: Path, name: str) -> None:
    held = _json(path, name)
    if path.name == results.DOCUMENT:
        whole = isinstance(held, dict) and isinstance(held.get("document"), dict)
        if not whole or held.get("format") != results.FORMAT:
            raise Fault(f"{shown(name)} is no result of format {results.FORMAT}")
    elif path.name != CELLS or not _are_keys(held):
        raise Fault(f"it holds the file {shown(name)}, which no result has")


def _cells(path: Path) -> dict[str, Any]:
    held = _json(path, CELLS)
    if not isinstance(held, dict) or not _are_keys(list(held)):
        raise Fault(f"its {CELLS} holds no cells by their sha256")
    return held


def _are_keys(held: Any) -> bool:
    return isinstance(held, list) and all(isinstance(one, str) and HASH.fullmatch(one) for one in held)


def _json(path: Path, name: str) -> Any:
    if path.stat().st_size > JSON_LIMIT:
        raise Fault(f"its file {shown(name)} has {path.stat().st_size:,} bytes; at most {JSON_LIMIT:,} are read")
    return parse_json(path.read_bytes(), name)
