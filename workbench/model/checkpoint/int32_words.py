"""Codes as compressed-tensors packs them: row by row, lowest bit first, without gaps, in words of 32 bits.

A symmetric grid of ours holds codes 0 to 2**bits - 1 whose zero is 2**(bits - 1). The format stores q + 2**(bits - 1)
with q = code - 2**(bits - 1): that is the code itself, so nothing is rounded again.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

ROWS = 1024
"""Rows that are packed at a time: a bit takes a byte on the way."""


def pack_words(codes: UInt8[Tensor, "out in"], bits: int) -> Int32[Tensor, "out words"]:
    """Pack codes below 2**bits, each row padded with zero bits to whole words."""
    parts = [_pack(codes[start : start + ROWS].numpy(), bits) for start in range(0, len(codes), ROWS)]
    return torch.cat([torch.from_numpy(part) for part in parts])


def _pack(codes: UInt8[np.ndarray, "row in"], bits: int) -> Int32[np.ndarray, "row words"]:
    rows, columns = codes.shape
    places = np.arange(bits, dtype=np.uint8)
    stream = ((codes[:, :, None] >> places) & 1).reshape(rows, columns * bits)
    packed = np.packbits(stream, axis=1, bitorder="little")
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4)))
    return padded.view("<i4")
