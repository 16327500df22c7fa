"""The contract and the byte layout spelled out one number at a time: slow, obvious, used by the tests alone.

Every step up to the code is one IEEE single-precision operation of numpy. Values are float64; they are exact in float32
too, so that tests can ask for equality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

F32 = np.float32


@dataclass(frozen=True)
class GroupResult:
    """One group: its fp16 scale, its zero point (stored or implied), its codes and its values."""

    scale: float
    zero: int
    codes: list[int]
    values: list[float]


def quantize_group(weights: list[float], bits: int, symmetric: bool) -> GroupResult:
    """Round one group to its own grid; `weights` hold float32 numbers."""
    qmax = 2**bits - 1
    lo = F32(min(*weights, 0.0, 0.0))
    hi = F32(max(*weights, 0.0, 0.0))
    span = F32(2) * max(-lo, hi) if symmetric else hi - lo
    scale = max(float(np.float16(span / F32(qmax))), 2.0**-24)
    inv = F32(1) / F32(scale)
    zero = 2 ** (bits - 1) if symmetric else min(max(int(np.rint(-lo * inv)), 0), qmax)
    codes = [min(max(int(np.rint(F32(weight) * inv)) + zero, 0), qmax) for weight in weights]
    return GroupResult(scale, zero, codes, [(code - zero) * scale for code in codes])


def quantize_row(weights: list[float], bits: int, group_size: int, symmetric: bool) -> list[GroupResult]:
    """Every group of a row; -1 is the whole row, the last group may be shorter."""
    step = len(weights) if group_size == -1 else group_size
    return [quantize_group(weights[at : at + step], bits, symmetric) for at in range(0, len(weights), step)]


def pack_row(codes: list[int], bits: int, group_size: int) -> list[list[int]]:
    """The bytes of one row, plane by plane: three bits are a plane of the low two and a plane of the high one."""
    step = len(codes) if group_size == -1 else group_size
    planes = []
    for shift, width in {3: ((0, 2), (2, 1))}.get(bits, ((0, bits),)):
        row = []
        for at in range(0, len(codes), step):
            group = [(code >> shift) % 2**width for code in codes[at : at + step]]
            held = [0] * ((len(group) * width + 7) // 8)
            for column, code in enumerate(group):
                held[column % len(held)] += code << width * (column // len(held))
            row += held
        planes.append(row)
    return planes
