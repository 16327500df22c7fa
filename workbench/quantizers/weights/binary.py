"""What binary quantizers store: signs with magnitudes and means, and signs in BiLLM's three sets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float16, UInt8
from torch import Tensor

import lowbit
from lowbit import pack
from workbench.quantizers.weight import QuantizedWeight


@dataclass(frozen=True, eq=False)
class CentredBinaryWeight(QuantizedWeight):
    """One sign a weight, one magnitude and at most one mean a row and group: mean + magnitude * sign.

    Attributes:
        binary: signs and magnitudes.
        mean: None where there are none.
    """

    binary: lowbit.BinaryWeight
    mean: Float16[Tensor, "out group"] | None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return self.binary.shape

    @property
    def nominal_bits(self) -> float:
        """The sign."""
        return 1.0

    def tensors(self) -> dict[str, Tensor]:
        """The plane of signs, fp16 magnitudes and fp16 means if there are any."""
        stored = {"sign": self.binary.planes[0], "magnitude": self.binary.magnitude}
        return stored if self.mean is None else stored | {"mean": self.mean}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        values = lowbit.dequantize(self.binary)
        if self.mean is not None:
            values += over_columns(self.mean, self.binary.group_size, self.shape[1])
        return values.to(dtype)


@dataclass(frozen=True, eq=False)
class StructuredBinaryWeight(QuantizedWeight):
    """BiLLM's layout: two bits a weight, which are sign and set, or in salient columns two signs.

    Attributes:
        split: sign and set (0 concentrated, 1 sparse) with two magnitudes a row and block; in salient columns the
            planes hold the signs of the weight and of its residual.
        residual: the two magnitudes of salient columns.
        mean: concentrated, sparse, salient and residual mean of each row and block; None where there are none.
        salient: one bit a column.
    """

    split: lowbit.BinaryWeight
    residual: Float16[Tensor, "out group 2"]
    mean: Float16[Tensor, "out group 4"] | None
    salient: UInt8[Tensor, " bytes"]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return self.split.shape

    @property
    def salient_columns(self) -> Bool[Tensor, " in"]:
        """Which columns have two signs a weight."""
        return unpack_bits(self.salient, self.shape[1])

    @property
    def nominal_bits(self) -> float:
        """One sign a weight and a second in salient columns: what the paper calls parameters. Sets do not count."""
        return 1.0 + float(self.salient_columns.double().mean())

    def tensors(self) -> dict[str, Tensor]:
        """Two planes, fp16 magnitudes and means, the flags of the columns."""
        first, second = self.split.planes
        stored = {"plane0": first, "plane1": second, "magnitude": self.split.magnitude, "residual": self.residual}
        stored["salient"] = self.salient
        return stored if self.mean is None else stored | {"mean": self.mean}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        planes, size, columns = self.split.planes, self.split.group_size, self.shape[1]
        salient, values = self.salient_columns, lowbit.dequantize(self.split)
        twice = lowbit.dequantize(lowbit.BinaryWeight(planes, self.residual, self.shape, size, "residual"))
        if self.mean is not None:
            few, many, first, second = (over_columns(mean, size, columns) for mean in self.mean.unbind(2))
            values += torch.where(pack.unpack(planes[1:], columns, 1, size).bool(), many, few)
            twice += first + second
        return torch.where(salient, twice, values).to(dtype)


def pack_bits(bits: Bool[Tensor, "*shape"]) -> UInt8[Tensor, " bytes"]:
    """Any number of bits, eight to a byte, in the planar order of one group."""
    if not bits.numel():
        return torch.empty(0, dtype=torch.uint8, device=bits.device)
    return pack.pack(bits.reshape(1, -1).to(torch.uint8), 1, -1)[0].flatten()


def unpack_bits(packed: UInt8[Tensor, " bytes"], count: int) -> Bool[Tensor, " bit"]:
    """The inverse of `pack_bits`."""
    if not count:
        return torch.empty(0, dtype=torch.bool, device=packed.device)
    return pack.unpack((packed.unsqueeze(0),), count, 1, -1).flatten().bool()


def over_columns(numbers: Float[Tensor, "out group"], group_size: int, columns: int) -> Float[Tensor, "out in"]:
    """One number a group, repeated over its columns, float32."""
    size = columns if group_size == -1 else group_size
    return numbers.float().repeat_interleave(size, dim=1)[:, :columns]
