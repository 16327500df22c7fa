"""The contract and the byte layout spelled out one number at a time: slow, obvious, used by the tests alone.

Every step up to the code is one IEEE single-precision operation of numpy. Values are float64; they are exact in float32
too, so that tests can ask for equality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def quantize_group(weights: list[float], bits: int, symmetric: bool, clip: float = 1.0) -> GroupResult:
    """Round one group to its own grid over the share `clip` of its range; `weights` hold float32 numbers."""
    qmax = 2**bits - 1
    lo = F32(min(*weights, 0.0, 0.0)) * F32(clip)
    hi = F32(max(*weights, 0.0, 0.0)) * F32(clip)
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


@dataclass(frozen=True)
class BinaryGroup:
    """One group of a binary weight: its fp16 magnitudes, the bits of each plane, and its values."""

    magnitudes: list[float]
    planes: list[list[bool]]
    values: list[float]


def binarize_group(weights: list[float], kind: str, counts: Sequence[float], share: float = 0.0) -> BinaryGroup:
    """Signs and mean sizes of one group; `counts` say how much each weight counts, `share` where a split lies."""
    signs = [weight >= 0 for weight in weights]
    if kind == "split":
        threshold = F32(max(abs(weight) for weight in weights)) * F32(share)
        large = [bool(F32(abs(weight)) > threshold) for weight in weights]
        magnitudes = [
            _mean_size(weights, [c * (bit == part) for c, bit in zip(counts, large, strict=True)]) for part in (0, 1)
        ]
        values = [magnitudes[bit] if sign else -magnitudes[bit] for sign, bit in zip(signs, large, strict=True)]
        return BinaryGroup(magnitudes, [signs, large], values)
    first = _mean_size(weights, counts)
    values = [first if sign else -first for sign in signs]
    if kind == "plain":
        return BinaryGroup([first], [signs], values)
    rest = [float(F32(weight) - F32(value)) for weight, value in zip(weights, values, strict=True)]
    second = binarize_group(rest, "plain", counts)
    values = [float(F32(one) + F32(two)) for one, two in zip(values, second.values, strict=True)]
    return BinaryGroup([first, *second.magnitudes], [signs, *second.planes], values)


def _mean_size(weights: list[float], counts: Sequence[float]) -> float:
    """Mean size, each weight counted as often as `counts` says; exact until it is rounded to fp16."""
    total = math.fsum(counts)
    if not total:
        return 0.0
    return float(np.float16(F32(math.fsum(abs(w) * c for w, c in zip(weights, counts, strict=True)) / total)))
