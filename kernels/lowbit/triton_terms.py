"""What the products read: a weight as terms, each a run of equal groups of one kind, and how a kernel decodes them.

A term is a tuple of tensors and numbers (`Term`) beside a tuple of compile-time numbers (`Form`). A packed weight is
one term, or two where its last group is short; a mixed weight has those of all its parts. Any number of them goes
into one launch, and only the kinds that are there are compiled.
"""

# Triton's annotations describe the compiler's types, not what may be written inside a kernel:
# pyright: reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from lowbit import pack
from lowbit.contract import PackedWeight
from lowbit.parts import BinaryWeight, MixedWeight, Weight

LEAST_DEPTH = 16
"""Bytes of a step on tensor cores: the smallest depth of a product there."""
STEP_COLUMNS = 128
"""Columns of a step on tensor cores, where a group has as many."""


class Term(NamedTuple):
    """One run of equal groups, as a kernel sees it.

    Attributes:
        low: low plane, from the run's first byte on.
        high: high plane of three bits, or the second plane of a binary weight; else `low`, unread.
        scale: scales or magnitudes, from the run's first group on.
        zero: zero points likewise; `scale`, unread, where there are none.
        low_bytes: bytes of a row of `low`.
        high_bytes: bytes of a row of `high`.
        groups: groups of a row in memory.
        here: groups of a row in this run.
        first: the run's first column of x.
    """

    low: Tensor
    high: Tensor
    scale: Tensor
    zero: Tensor
    low_bytes: int
    high_bytes: int
    groups: int
    here: int
    first: int


class Form(NamedTuple):
    """What a kernel is compiled for.

    Attributes:
        kind: "affine", "symmetric", or the kind of a binary weight.
        bits: width of a code; 1 for a binary weight.
        width: bits of a code in the low plane.
        length: columns of a group.
        size: bytes of a group in the low plane.
        wide: bytes of one group in a step, a power of two.
        together: groups in a step, a power of two; 1 where a group takes several steps.
        exact: every byte and column of every step exists, so that loads need no mask and stay wide.
    """

    kind: str
    bits: int
    width: int
    length: int
    size: int
    wide: int
    together: int
    exact: bool


def terms(weight: Weight, step_bytes: int | None = None) -> tuple[tuple[Term, ...], tuple[Form, ...]]:
    """All terms of a weight; columns of x count in the order in which the parts are stored.

    Args:
        weight: any low-bit weight.
        step_bytes: most bytes of the low plane that a step reads of each row, a power of two; None is a step for
            tensor cores.
    """
    first, pairs = 0, []
    for part in weight.parts if isinstance(weight, MixedWeight) else (weight,):
        pairs += _terms_of_part(part, first, step_bytes)
        first += part.shape[1]
    held, forms = zip(*pairs, strict=True)
    return held, forms


def steps(term: Term, form: Form) -> int:
    """Steps that a kernel takes through a row of a term."""
    return triton.cdiv(term.here, form.together) * triton.cdiv(form.size, form.wide)


def width_of(forms: tuple[Form, ...]) -> int:
    """The largest width of a code, which a launch is chosen for."""
    return max(form.bits for form in forms)


def _terms_of_part(
    part: PackedWeight | BinaryWeight, first: int, step_bytes: int | None
) -> Iterator[tuple[Term, Form]]:
    binary = isinstance(part, BinaryWeight)
    bits = 1 if binary else part.bits
    kind = part.kind if binary else "symmetric" if part.symmetric else "affine"
    scale = part.magnitude if binary else part.scale
    zero = scale if binary or part.zero is None else part.zero
    low, high = part.planes[0], part.planes[-1]
    widths = pack.PLANE_WIDTHS[bits]
    for run in pack.runs(part.shape[1], part.group_size):
        term = Term(
            low[:, run.bytes(widths[0])], high[:, run.bytes(widths[-1])], scale[:, run.groups], zero[:, run.groups],
            low.shape[1], high.shape[1], scale.shape[1], run.count, first + run.columns.start,
        )  # fmt: skip
        yield term, _form(kind, bits, run, step_bytes)


def _form(kind: str, bits: int, run: pack.Run, step_bytes: int | None) -> Form:
    width = pack.PLANE_WIDTHS[bits][0]
    size = pack.group_bytes(run.length, width)
    filled = triton.next_power_of_2(size)
    odd = size != filled or run.length * width % 8 != 0
    if step_bytes is None:
        wide = min(filled, LEAST_DEPTH if odd else STEP_COLUMNS * width // 8)
        together = max(1, LEAST_DEPTH // wide)
    else:
        wide = min(filled, step_bytes)
        together = min(step_bytes // wide, triton.next_power_of_2(run.count))
    exact = size % wide == 0 and run.count % together == 0 and run.length * width % 8 == 0
    return Form(kind, bits, width, run.length, size, wide, together, exact)


@triton.jit
def share(here, split, SPLITS: tl.constexpr, FORM: tl.constexpr):
    """First and last step of program `split` of those that go through a row together."""
    steps = tl.cdiv(here, FORM.together) * ((FORM.size + FORM.wide - 1) // FORM.wide)
    each = (steps + SPLITS - 1) // SPLITS
    return split * each, tl.minimum(split * each + each, steps)


@triton.jit
def load_codes(low_rows, g, c, slot: tl.constexpr, inside, FORM: tl.constexpr):
    """The low plane's bits of the codes in slot `slot` of bytes `c` of groups `g`, in rows that begin at `low_rows`.

    All slots read the same bytes, which the compiler loads once.
    """
    held = tl.load(low_rows + (g * FORM.size + c), mask=inside, other=0).to(tl.int32)
    return (held >> (FORM.width * slot)) & (2**FORM.width - 1)


@triton.jit
def load_high(high_rows, g, c, slot: tl.constexpr, inside, FORM: tl.constexpr):
    """The high plane's bit of the same codes; 0 where the form has no high plane.

    Where groups of three bits are whole bytes of one bit, here too all slots read the same bytes.
    """
    if FORM.bits == 3:
        SIZE: tl.constexpr = (FORM.length + 7) // 8
        column = slot * FORM.size + c
        byte = c % SIZE if FORM.length % 8 == 0 else column % SIZE
        held = tl.load(high_rows + (g * SIZE + byte), mask=inside, other=0).to(tl.int32)
        bit = (held >> (column // SIZE)) & 1
    elif FORM.kind == "residual" or FORM.kind == "split":
        bit = load_codes(high_rows, g, c, slot, inside, FORM)
    else:
        bit = 0
    return bit


@triton.jit
def load_scales(scale_ptr, zero_ptr, cell, inside, FORM: tl.constexpr):
    """Two numbers of each row and group, float32: scale and zero point, or two magnitudes (`plain`: its one twice)."""
    if FORM.kind == "residual" or FORM.kind == "split":
        first = tl.load(scale_ptr + 2 * cell, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(scale_ptr + 2 * cell + 1, mask=inside, other=0.0).to(tl.float32)
    else:
        first = tl.load(scale_ptr + cell, mask=inside, other=0.0).to(tl.float32)
        if FORM.kind == "affine":
            second = tl.load(zero_ptr + cell, mask=inside, other=0).to(tl.float32)
        elif FORM.kind == "symmetric":
            second = tl.full(first.shape, 2 ** (FORM.bits - 1), tl.float32)
        else:
            second = first
    return first, second


@triton.jit
def value(code, high, first, second, FORM: tl.constexpr):
    """What a code stands for, float32; exactly what `dequantize` gives."""
    if FORM.bits == 3:
        code |= high << 2
    if FORM.kind == "affine" or FORM.kind == "symmetric":
        result = (code.to(tl.float32) - second) * first
    else:
        sign = (2 * code - 1).to(tl.float32)
        if FORM.kind == "residual":
            result = sign * first + (2 * high - 1).to(tl.float32) * second
        elif FORM.kind == "split":
            result = sign * tl.where(high == 1, second, first)
        else:
            result = sign * first
    return result
