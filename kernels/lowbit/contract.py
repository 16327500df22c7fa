"""The numeric contract: what every backend must return, bit by bit, and what none of them accepts.

For the weights w of one group (a row's neighbouring columns), in float32 and in this order of operations:

    lo = min(min w, 0), hi = max(max w, 0), qmax = 2**bits - 1
    scale = max(fp16(span / qmax), 2**-24)   with span = hi - lo, or 2 max(-lo, hi) when symmetric
    inv   = 1 / scale                        both divisions correctly rounded
    zero  = clamp(rint(-lo * inv), 0, qmax)  or 2**(bits - 1) when symmetric
    code  = clamp(rint(w * inv) + zero, 0, qmax)
    value = (code - zero) * scale

`rint` rounds half to even. The scale is rounded to fp16 before codes are made, so that codes, errors and dequantized
values all come from the scale that is stored; its floor is the smallest positive fp16 number. A value is a small
integer times an fp16 number, hence exact in float32. No product and sum may be fused: on bf16 weights one fused step
changes one code in about 300.

Zero is always one of the levels. The symmetric grid of one bit holds only zero and minus the full span, which rounds
nearly every weight to zero: one bit a weight is better served by the asymmetric grid or by binarization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float16, Float32, Int16, UInt8
from torch import Tensor

from lowbit import pack

WIDTHS = tuple(pack.PLANE_WIDTHS)
WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SCALE_FLOOR = 2.0**-24
SCALE_MAXIMUM = 65504.0


class LowbitError(ValueError):
    """A request that no kernel can serve: one plain sentence that names the thing, the value and the choices."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The levels of every group: value = (code - zero) * scale.

    Attributes:
        scale: positive, at most 65504.
        zero: the code of the value 0; None on a symmetric grid, where it is 2**(bits - 1) and not stored.
    """

    scale: Float16[Tensor, "out group"]
    zero: Int16[Tensor, "out group"] | None


@dataclass(frozen=True, eq=False)
class ErrorSums:
    """Squared rounding errors summed over each group of each row, against exactly what `dequantize` returns.

    Attributes:
        squared: sum of (value - w)**2.
        weighted: sum of h * (value - w)**2 with one weight h a column; None when no h was given.
    """

    squared: Float32[Tensor, "out group"]
    weighted: Float32[Tensor, "out group"] | None


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """A weight matrix as it is stored: planes of packed codes, fp16 scales and 16-bit zero points.

    Attributes:
        planes: the bytes of each row (see `pack`); two planes at three bits, else one.
        scale: one a group.
        zero: one a group, or None when symmetric.
        shape: rows (out) and columns (in).
        bits: width of a code.
        group_size: columns that share a scale; -1 is the whole row.
        symmetric: the zero point is 2**(bits - 1) and is not stored.

    Raises:
        LowbitError: a tensor has another shape or dtype than the other fields ask for.
    """

    planes: tuple[UInt8[Tensor, "out bytes"], ...]
    scale: Float16[Tensor, "out group"]
    zero: Int16[Tensor, "out group"] | None
    shape: tuple[int, int]
    bits: int
    group_size: int
    symmetric: bool

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together: kernels address them by the numbers alone."""
        check_grid_options(self.bits, self.group_size)
        rows, columns = self.shape
        groups = pack.group_count(columns, self.group_size)
        widths = pack.PLANE_WIDTHS[self.bits]
        if len(self.planes) != len(widths):
            raise LowbitError(f"{self.bits} bit codes have {len(widths)} plane(s), but {len(self.planes)} were given")
        if (self.zero is None) != self.symmetric:
            raise LowbitError("a symmetric weight has no zero points, any other has one a group")
        parts = (*self.planes, self.scale) if self.zero is None else (*self.planes, self.scale, self.zero)
        if len({part.device for part in parts}) > 1:
            raise LowbitError("the planes, scales and zero points of a packed weight lie on different devices")
        for plane, width in zip(self.planes, widths, strict=True):
            check_part("plane", plane, torch.uint8, (rows, pack.row_bytes(columns, self.group_size, width)))
        check_part("scale", self.scale, torch.float16, (rows, groups))
        if self.zero is not None:
            check_part("zero point", self.zero, torch.int16, (rows, groups))

    @classmethod
    def from_codes(cls, codes: UInt8[Tensor, "out in"], grid: Grid, *, bits: int, group_size: int) -> PackedWeight:
        """Pack codes that were made elsewhere (an error-compensating quantizer, say) on a known grid.

        Raises:
            LowbitError: a code does not fit the width, or the grid does not fit the codes.
        """
        check_grid_options(bits, group_size)
        if codes.dtype != torch.uint8 or codes.ndim != 2 or not codes.numel():
            raise LowbitError(f"codes are a filled uint8 matrix, not {codes.dtype} of shape {tuple(codes.shape)}")
        if int(codes.max()) >= 2**bits:
            raise LowbitError(f"code {int(codes.max())} does not fit in {bits} bit")
        planes = pack.pack(codes, bits, group_size)
        rows, columns = codes.shape
        return cls(planes, grid.scale, grid.zero, (rows, columns), bits, group_size, grid.zero is None)

    @property
    def grid(self) -> Grid:
        """The levels of every group."""
        return Grid(self.scale, self.zero)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        parts = (*self.planes, self.scale) if self.zero is None else (*self.planes, self.scale, self.zero)
        return sum(part.nbytes for part in parts)

    @property
    def stored_bits(self) -> float:
        """Bits a weight, scales and zero points included."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])

    def codes(self) -> UInt8[Tensor, "out in"]:
        """The codes, one a byte."""
        return pack.unpack(self.planes, self.shape[1], self.bits, self.group_size)


def check_grid_options(bits: int, group_size: int) -> None:
    """Refuse widths and group sizes that no kernel has."""
    if bits not in WIDTHS:
        raise LowbitError(f"bits has value {bits!r}; choose one of: {', '.join(map(str, WIDTHS))}")
    if isinstance(group_size, bool) or not isinstance(group_size, int) or (group_size < 1 and group_size != -1):
        raise LowbitError(
            f"group size has value {group_size!r}; choose a positive number of columns, or -1 (a whole row)"
        )


def check_table_options(widths: Sequence[int], group_sizes: Sequence[int]) -> None:
    """Refuse an empty table, and widths and group sizes that no kernel has."""
    if not widths or not group_sizes:
        raise LowbitError("an error table needs at least one width and one group size")
    for bits in widths:
        for group_size in group_sizes:
            check_grid_options(bits, group_size)


def check_weight(w: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """The weight without its gradient history, once its rank, dtype and layout are known to be readable.

    Kernels read memory in storage order, so a transposed or strided view would give wrong numbers in silence.
    """
    if w.ndim != 2 or not w.numel():
        raise LowbitError(f"a weight is a filled matrix [out, in], not a tensor of shape {tuple(w.shape)}")
    if w.dtype not in WEIGHT_DTYPES:
        raise LowbitError(
            f"the weight has dtype {_name(w.dtype)}; choose one of: {', '.join(map(_name, WEIGHT_DTYPES))}"
        )
    if not w.is_contiguous():
        raise LowbitError(
            f"the weight of shape {tuple(w.shape)} is not contiguous (strides {w.stride()}); call .contiguous()"
        )
    return w.detach()


def check_column_weights(h: Float[Tensor, " in"] | None, w: Float[Tensor, "out in"]) -> Float32[Tensor, " in"] | None:
    """The column weights in float32, once they fit the weight's columns and are finite and not negative."""
    if h is None:
        return None
    if h.shape != w.shape[1:]:
        raise LowbitError(f"h has shape {tuple(h.shape)}, but the weight has {w.shape[1]} columns and takes one each")
    if h.device != w.device:
        raise LowbitError(f"h is on {h.device}, but the weight is on {w.device}")
    held = h.detach().to(torch.float32).contiguous()
    if not bool((torch.isfinite(held) & (held >= 0)).all()):
        raise LowbitError("h holds a negative or non-finite number; column weights are finite and at least 0")
    return held


def check_clip(
    clip: Float32[Tensor, "out group"] | None, w: Float[Tensor, "out in"], group_size: int
) -> Float32[Tensor, "out group"] | None:
    """The share of each group's range that its grid reaches over, once it fits the groups and lies in (0, 1]."""
    if clip is None:
        return None
    check_part("clip", clip, torch.float32, (w.shape[0], pack.group_count(w.shape[1], group_size)))
    if clip.device != w.device:
        raise LowbitError(f"clip is on {clip.device}, but the weight is on {w.device}")
    if not bool(((clip > 0) & (clip <= 1)).all()):
        raise LowbitError("clip holds a number that is not above 0 and at most 1")
    return clip.detach()


def output_buffer(
    shape: tuple[int, int], device: torch.device, dtype: torch.dtype, out: Float[Tensor, "out in"] | None
) -> Float[Tensor, "out in"]:
    """Where dequantized values go: `out` once it is known to fit, or a new tensor."""
    if dtype not in WEIGHT_DTYPES:
        raise LowbitError(f"dtype has value {_name(dtype)}; choose one of: {', '.join(map(_name, WEIGHT_DTYPES))}")
    if out is None:
        return torch.empty(shape, dtype=dtype, device=device)
    check_part("out", out, dtype, shape)
    if out.device != device:
        raise LowbitError(f"out is on {out.device}, but the packed weight is on {device}")
    return out


def check_part(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Refuse a tensor of another dtype, shape or layout than a kernel reads."""
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or not tensor.is_contiguous():
        layout = "" if tensor.is_contiguous() else ", not contiguous"
        raise LowbitError(
            f"{name} is {_name(tensor.dtype)} of shape {tuple(tensor.shape)}{layout}, "
            f"but contiguous {_name(dtype)} of shape {shape} is needed"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
