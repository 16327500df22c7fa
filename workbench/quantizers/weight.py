"""A quantized weight: what would be stored of it, how many bits that takes, and the dense weight it stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import lowbit


class QuantizedWeight(ABC):
    """One matrix `[out, in]` in fewer bits.

    The size is counted from `tensors()` and from nothing else, so it cannot differ from what is held.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""

    @property
    @abstractmethod
    def nominal_bits(self) -> float:
        """Bits per weight as the method's paper advertises them."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that is stored, by name."""

    @abstractmethod
    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    @property
    def stored_bits(self) -> float:
        """Bits per weight on disk: codes, scales, zero points and whatever else is held."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, eq=False)
class AffineWeight(QuantizedWeight):
    """Evenly spaced levels, (code - zero) * scale, in groups of neighbouring input columns of one row."""

    packed: lowbit.PackedWeight

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        rows, columns = self.packed.shape
        return rows, columns

    @property
    def nominal_bits(self) -> float:
        """The width of a code; papers on affine grids leave scales and zero points out of it."""
        return float(self.packed.bits)

    def tensors(self) -> dict[str, Tensor]:
        """The bit planes, fp16 scales and, unless symmetric, 16-bit zero points."""
        stored = {f"plane{place}": plane for place, plane in enumerate(self.packed.planes)}
        stored["scale"] = self.packed.scale
        if self.packed.zero is not None:
            stored["zero"] = self.packed.zero
        return stored

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        return lowbit.dequantize(self.packed, dtype=dtype)
