"""The types of llama.cpp that a width can become, with their size: codes, steps and offsets of a block together."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.scheme import UNTOUCHED


@dataclass(frozen=True, slots=True)
class GgufType:
    """A type.

    Attributes:
        name: as llama.cpp writes it.
        size: bits a weight, everything included.
        block: columns that must divide those of a matrix.
        bits: our width that it stands for.
        symmetric: whether its grid has no offset.
    """

    name: str
    size: float
    block: int
    bits: int
    symmetric: bool


F16 = GgufType("f16", 16.0, 1, UNTOUCHED, True)
TYPES = (
    GgufType("q2_K", 2.625, 256, 2, False),
    GgufType("q3_K", 3.4375, 256, 3, True),
    GgufType("q4_K", 4.5, 256, 4, False),
    GgufType("q4_0", 4.5, 32, 4, True),
    GgufType("q8_0", 8.5, 32, 8, True),
    F16,
)
OTHERS = {
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "q2_k_s", "tq1_0", "tq2_0"), 2),
    **dict.fromkeys(("iq3_xxs", "iq3_xs", "iq3_s", "iq3_m", "q3_k_s", "q3_k_m", "q3_k_l"), 3),
    **dict.fromkeys(("iq4_nl", "iq4_xs", "q4_1", "q4_k_s", "q4_k_m"), 4),
    **dict.fromkeys(("q5_0", "q5_1", "q5_k", "q5_k_s", "q5_k_m", "q6_k", "q8_1", "q8_k"), 8),
    **dict.fromkeys(("bf16", "f32", "f64"), UNTOUCHED),
}
"""Types that are read though none is written, in lower case, with the width of ours that is nearest from above."""


def nearest(bits: int, columns: int) -> GgufType:
    """The type for a width, among those whose blocks divide the columns: the smallest that has as many bits."""
    fitting = (one for one in TYPES if columns % one.block == 0 and one.bits >= bits)
    return min(fitting, key=lambda one: (one.bits, one.size, -one.block))
