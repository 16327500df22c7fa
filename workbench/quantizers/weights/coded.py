"""What quantized weights with levels of their own share: packed codes, fp16 numbers, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from lowbit import LowbitError, contract, pack
from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.quantizers.weight import QuantizedWeight


@dataclass(frozen=True, eq=False)
class CodedWeight(QuantizedWeight):
    """Packed codes `[out, in]`; a subclass knows what they stand for.

    Attributes:
        planes: the bytes of each row (see `lowbit.pack`).
        size: (out, in) of the codes.
        bits: width of a code.
        group_size: columns that are packed together; -1 is the whole row.
    """

    planes: tuple[UInt8[Tensor, "out bytes"], ...]
    size: tuple[int, int]
    bits: int
    group_size: int

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return self.size

    @property
    def nominal_bits(self) -> float:
        """The width of a code."""
        return float(self.bits)

    def codes(self) -> UInt8[Tensor, "out in"]:
        """The codes, one a byte."""
        return pack.unpack(self.planes, self.size[1], self.bits, self.group_size)

    def tensors(self) -> dict[str, Tensor]:
        """The bit planes; a subclass adds its own."""
        return {f"plane{place}": plane for place, plane in enumerate(self.planes)}


def spread(parts: Float[Tensor, "line group"], columns: int, group_size: int) -> Float[Tensor, "line columns"]:
    """One number a group to one a column; the last group may be shorter."""
    width = columns if group_size == -1 else group_size
    return parts.repeat_interleave(width, dim=1)[:, :columns] if parts.shape[1] > 1 else parts


def stored(parts: Float[Tensor, "*shape"], name: str) -> Float16[Tensor, "*shape"]:
    """Numbers as they are stored, in fp16.

    Raises:
        WorkbenchError: one is beyond fp16.
    """
    held = parts.to(torch.float16)
    if not bool(torch.isfinite(held).all()):
        raise WorkbenchError(f"{name} of {float(parts.abs().max()):g} is beyond fp16, which ends at 65504")
    return held


def check_grid(weight: Float[Tensor, "out in"], bits: int, group_size: int, widths: tuple[int, ...]) -> None:
    """Refuse what no grid can be made of.

    Raises:
        WorkbenchError: an empty weight, NaN or infinity (nan or inf) in it, a width or a group size that there is not.
    """
    if bits not in widths:
        raise WorkbenchError(f"bits has value {bits!r}; choose one of: {', '.join(map(str, widths))}")
    try:
        contract.check_weight(weight.contiguous())
        contract.check_grid_options(bits, group_size)
    except LowbitError as error:
        raise WorkbenchError(str(error)) from None
    check_finite(weight, "the weight")


def coded(codes: UInt8[Tensor, "out in"], bits: int, group_size: int) -> dict[str, Any]:
    """The fields of a `CodedWeight`."""
    rows, columns = codes.shape
    return {
        "planes": pack.pack(codes, bits, group_size),
        "size": (rows, columns),
        "bits": bits,
        "group_size": group_size,
    }
