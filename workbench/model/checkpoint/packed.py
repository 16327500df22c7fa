"""Packed weights as the tensors of a compressed-tensors checkpoint (format `pack-quantized`).

Codes and fp16 steps are handed over as they are held here. Left out: columns in groups from anywhere in the row
(act-order), scaled columns, levels that are not evenly spaced, weights that are kept apart.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

import lowbit
from workbench.errors import WorkbenchError, shown
from workbench.model.checkpoint.int32_words import pack_words
from workbench.model.matrices import Matrix
from workbench.scheme import GROUP_SIZES

PACKAGE = "compressed-tensors"
FIRST, DENSE = (0, 15), (0, 18)
"""Versions of compressed-tensors: the first that transformers loads with; the first that lays codes of 3 bits without
gaps. Before the latter ones zero points are loaded, from it on not (all measured, up to 0.20)."""


def installed_version() -> str:
    """The version of compressed-tensors that a fresh process will load with.

    Raises:
        WorkbenchError: it is not installed.
    """
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        raise WorkbenchError(
            "the format 'compressed-tensors' needs the package compressed-tensors, which is not installed; "
            "pip install 'salience-workbench[export]', or write --format dense"
        ) from None


def packs_without_gaps(installed: str) -> bool:
    """Whether a version lets codes straddle words, as we write them; others fill a word with ten codes of 3 bits."""
    return _numbers(installed) >= DENSE


def loads_zero_points(installed: str) -> bool:
    """Whether a version loads asymmetric packed weights."""
    return FIRST <= _numbers(installed) < DENSE


def _numbers(installed: str) -> tuple[int, ...]:
    return tuple(int(part) for part in installed.split(".")[:2])


def refuse_zero_points(name: str, installed: str) -> WorkbenchError:
    """The error for an asymmetric matrix that the installed library could not load."""
    return WorkbenchError(
        f"{shown(name)} has zero points, and compressed-tensors {installed} cannot load them (0.18, 0.19 and 0.20 fail "
        "with a shape mismatch, 0.15 to 0.17 can, but not 3 bits); solve again with `workbench allocate MODEL "
        "--symmetric`, give --symmetric with --quantizer, or write --format dense"
    )


def check_packable(matrix: Matrix, bits: int, group_size: int, symmetric: bool, installed: str) -> None:
    """Refuse a grid that the format or the library does not carry, from the scheme alone.

    Raises:
        WorkbenchError: a matrix that is no `nn.Linear`, zero points or widths that cannot be loaded, short groups.
    """
    if matrix.transposed:
        raise WorkbenchError(
            f"{shown(matrix.name)} belongs to a Conv1D, and compressed-tensors packs nn.Linear alone; "
            "write --format dense"
        )
    if not symmetric and not loads_zero_points(installed):
        raise refuse_zero_points(matrix.name, installed)
    if 32 % bits and not packs_without_gaps(installed):
        raise WorkbenchError(
            f"{shown(matrix.name)} has {bits} bits, which compressed-tensors {installed} packs in another way; "
            "pip install 'compressed-tensors>=0.18', or choose 1, 2, 4 or 8 bits"
        )
    if 0 < group_size < matrix.columns and matrix.columns % group_size:
        whole = [size for size in GROUP_SIZES if size > 0 and matrix.columns % size == 0]
        raise WorkbenchError(
            f"{shown(matrix.name)} has {matrix.columns} columns, and its last group of {group_size} is short; "
            f"compressed-tensors takes whole groups only: choose a group size of "
            f"{', '.join(map(str, [*whole, -1]))} for it, or write --format dense"
        )


def format_group(group_size: int, columns: int) -> int:
    """The group size in the format's words: -1 where one group holds the whole row."""
    return -1 if group_size >= columns else group_size


def packed_tensors(matrix: Matrix, packed: lowbit.PackedWeight) -> dict[str, Tensor]:
    """The tensors that stand for one matrix in the file, by their names there."""
    place = f"{matrix.module}.weight"
    named = {
        f"{place}_packed": pack_words(packed.codes(), packed.bits),
        f"{place}_scale": packed.scale.contiguous(),
        f"{place}_shape": torch.tensor(matrix.shape),
    }
    if packed.zero is not None:
        # zero points are packed down the rows
        named[f"{place}_zero_point"] = pack_words(
            packed.zero.to(torch.uint8).T.contiguous(), packed.bits
        ).T.contiguous()
    return named
