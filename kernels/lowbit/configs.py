"""How kernels are launched: tiles, warps and stages by operation, width, rows and compute capability.

The numbers are static: nothing is measured at run time, so that two runs do the same and the first call of a page is
not a search. They come from compiler reports (no spills, wide loads); `python -m lowbit.tune` measures on a GPU and
writes `configs/sm_<capability>.json`, whose entries then come before the rules here.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lowbit.contract import LowbitError

FOLDER = Path(__file__).parent / "configs"
PASS_OPERATIONS = (
    "quantize", "dequantize", "errors", "clip_search", "alpha_search", "binarize", "split_search", "dequantize_binary",
)  # fmt: skip
"""One pass over the weight, a program for some rows of one group; `rows` are rows of the weight."""
PRODUCT_OPERATIONS = ("gemv", "matmul", "sum_splits", "add_sparse")
"""Products with x; `rows` are rows of x."""
OPERATIONS = PASS_OPERATIONS + PRODUCT_OPERATIONS
ROW_BUCKETS = (1, 4, 16, 64, 128)
"""Upper ends of the classes of rows that may have a launch of their own; more rows belong to the last class."""
TILE_ELEMENTS = 2048
"""Weights of one program of a pass: 16 rows of 128 columns keep a quantizer at about 64 registers a thread."""
DEQUANTIZE_ELEMENTS = 4096
"""The same where codes are read: 32 rows of 4-bit codes are 16 bytes a thread."""
MASKED_ELEMENTS = 1024
"""The same where a search or a binarizer masks every column, because a group is no power of two or does not divide
the row: with more, addresses and masks spill registers."""
SEARCHES = ("clip_search", "alpha_search", "binarize", "split_search")
PROCESSORS = 132
"""Streaming multiprocessors to fill; a smaller GPU is filled as well."""
GEMV_STEP_BYTES = 512
"""Bytes of the low plane that a gemv step reads of each row: of four rows, 16 bytes a thread of four warps."""


@dataclass(frozen=True, slots=True)
class LaunchShape:
    """How one kernel is launched.

    Attributes:
        num_warps: warps of a program, a power of two.
        num_stages: stages of a pipelined loop.
        block_rows: rows of the weight (columns of the result of a product) of a program.
        block_inputs: rows of x of a program; 1 in a pass.
        block_columns: columns of the weight, or entries of a sparse row, that a step takes; 0 where the group decides.
        step_bytes: bytes of the low plane that a step of `gemv` reads of each row; 0 elsewhere.
        split: programs that share the columns of one block of rows; a second pass adds their parts up.
    """

    num_warps: int = 4
    num_stages: int = 2
    block_rows: int = 16
    block_inputs: int = 1
    block_columns: int = 0
    step_bytes: int = 0
    split: int = 1


def launch_shape(
    op: str,
    *,
    bits: int,
    rows: int,
    columns: int = 0,
    group: int = 0,
    out: int = 0,
    capability: int | None = None,
) -> LaunchShape:
    """The launch of an operation.

    Args:
        op: one of `OPERATIONS`.
        bits: width of a code; the largest of a weight with several; 1 for a binary weight.
        rows: rows of the weight in a pass, rows of x in a product.
        columns: columns of the weight; 0 where unknown.
        group: columns of a group (of a whole row: all of them); 0 where unknown.
        out: rows of the weight in a product; 0 where unknown.
        capability: compute capability as 10 * major + minor, such as 90; None takes the rules alone.

    Raises:
        LowbitError: an unknown operation, or a configuration file that cannot be read.
    """
    if op not in OPERATIONS:
        raise LowbitError(f"there is no launch of {op!r}; choose one of: {', '.join(OPERATIONS)}")
    group = group or columns or 128
    shape = _pass_shape(op, group, columns) if op in PASS_OPERATIONS else _product_shape(op, bits, rows, capability)
    name = entry_name(op, bits, rows, group)
    tuned = _tried.get(name) or ({} if capability is None else _tuned(capability).get(name, {}))
    shape = replace(shape, **tuned)
    if op == "gemv" and "split" not in tuned and columns and out:
        shape = replace(shape, split=_gemv_split(shape, bits, columns, out))
    return shape


def entry_name(op: str, bits: int, rows: int, group: int) -> str:
    """The key of a launch in a configuration file: `matmul/4/16` goes by rows of x, `quantize/4/128` by the tile."""
    return f"{op}/{bits}/{tile_columns(group) if op in PASS_OPERATIONS else row_bucket(rows)}"


def row_bucket(rows: int) -> int:
    """The upper end of the class that a number of rows belongs to."""
    return next((bucket for bucket in ROW_BUCKETS if rows <= bucket), ROW_BUCKETS[-1])


def tile_columns(group: int) -> int:
    """Columns of the tile that holds a group: a power of two, at least a byte of one-bit codes."""
    return max(8, 1 << (group - 1).bit_length())


def _pass_shape(op: str, group: int, columns: int) -> LaunchShape:
    """A tile of one group of some rows; a long group takes more warps instead of more registers."""
    masked = tile_columns(group) != group or columns % group != 0
    elements = DEQUANTIZE_ELEMENTS if op.startswith("dequantize") else TILE_ELEMENTS
    if masked and op in SEARCHES:
        elements = MASKED_ELEMENTS
    tile = tile_columns(group)
    block_rows = max(1, elements // tile)
    warps = min(32, max(4, 4 * tile * block_rows // elements))
    return LaunchShape(num_warps=warps, block_rows=block_rows, block_columns=tile)


def _product_shape(op: str, bits: int, rows: int, capability: int | None) -> LaunchShape:
    if op == "gemv":
        return LaunchShape(block_rows=4, block_inputs=1 << (rows - 1).bit_length(), step_bytes=GEMV_STEP_BYTES)
    if op == "matmul":
        return _matmul_shape(bits, rows, capability)
    if op == "add_sparse":
        return LaunchShape(num_warps=1, block_rows=4, block_inputs=16 if rows > 4 else 4, block_columns=32)
    return LaunchShape(block_rows=512)


def _matmul_shape(bits: int, rows: int, capability: int | None) -> LaunchShape:
    """Tiles of `matmul`. Before sm_90 the larger tile has 64 rows of the weight: with 128 it spills registers."""
    if rows <= 16:
        return LaunchShape(num_stages=4, block_rows=64, block_inputs=16)
    if rows <= 32:
        return LaunchShape(num_stages=3, block_rows=64, block_inputs=32)
    wide = capability is not None and capability >= 90 and bits < 8
    return LaunchShape(num_stages=3, block_rows=128 if wide else 64, block_inputs=64)


def _gemv_split(shape: LaunchShape, bits: int, columns: int, out: int) -> int:
    """Programs a block of rows: enough for four a processor, each with at least two steps."""
    width = 2 if bits == 3 else bits
    steps = columns * width // (8 * shape.step_bytes)
    blocks = -(-out // shape.block_rows)
    return max(1, min(-(-4 * PROCESSORS // blocks), steps // 2))


_tried: dict[str, dict[str, int]] = {}


@contextlib.contextmanager
def tried(name: str, fields: dict[str, int]) -> Iterator[None]:
    """Launch `name` (see `entry_name`) with these fields for a while, whatever the files and rules say."""
    _tried[name] = fields
    try:
        yield
    finally:
        del _tried[name]


@functools.lru_cache
def _tuned(capability: int) -> dict[str, dict[str, Any]]:
    """Entries of the file that was written on a GPU of this capability; none where there is no file."""
    path = FOLDER / f"sm_{capability}.json"
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text())["launches"]
        for fields in entries.values():
            LaunchShape(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LowbitError(f"the launch configurations in {path.name} cannot be read: {error}") from error
    return entries


def capability_of(device: Any) -> int | None:
    """Compute capability of a CUDA device as 10 * major + minor; None for any other device."""
    import torch

    device = torch.device(device)
    if device.type != "cuda":
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
