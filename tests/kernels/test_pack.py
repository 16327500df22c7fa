"""The byte layout: one vector by hand for each width, then any shape against the number-by-number layout and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowbit import pack
from lowbit.reference import pack_row


@pytest.mark.parametrize(
    ("bits", "codes", "planes"),
    [
        (1, [1, 0, 0, 1, 0, 0, 0, 1], [[0b10001001]]),
        (2, [0, 1, 2, 3, 3, 2, 1, 0], [[0b01111000, 0b00101101]]),
        (3, [0, 1, 2, 3, 4, 5, 6, 7], [[0b10001000, 0b11011101], [0b11110000]]),
        (4, [1, 2, 3, 4], [[0x31, 0x42]]),
        (8, [7, 0, 255], [[7, 0, 255]]),
    ],
)
def test_bytes_by_hand(bits: int, codes: list[int], planes: list[list[int]]) -> None:
    packed = pack.pack(torch.tensor([codes], dtype=torch.uint8), bits, -1)
    assert [plane.tolist() for plane in packed] == [[plane] for plane in planes]


def test_a_short_group_keeps_its_own_length() -> None:
    codes = torch.tensor([[1, 2, 3, 4, 5, 6, 7]], dtype=torch.uint8)
    assert pack.pack(codes, 4, 4)[0].tolist() == [[0x31, 0x42, 0x75, 0x06]]


@st.composite
def matrices(draw: st.DrawFn) -> tuple[torch.Tensor, int, int]:
    bits = draw(st.sampled_from(tuple(pack.PLANE_WIDTHS)))
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 70))
    group_size = draw(st.sampled_from((-1, 1, 3, 8, 17, 32, 64, 128)))
    codes = draw(st.lists(st.integers(0, 2**bits - 1), min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(codes, dtype=torch.uint8).view(rows, columns), bits, group_size


@settings(max_examples=60, deadline=None)
@given(matrices())
def test_any_shape_lies_as_written_and_comes_back(case: tuple[torch.Tensor, int, int]) -> None:
    codes, bits, group_size = case
    planes = pack.pack(codes, bits, group_size)
    expected = [pack_row(row, bits, group_size) for row in codes.tolist()]
    assert [plane.tolist() for plane in planes] == [list(rows) for rows in zip(*expected, strict=True)]
    assert torch.equal(pack.unpack(planes, codes.shape[1], bits, group_size), codes)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500), st.sampled_from((-1, 1, 5, 32, 64, 128, 600)), st.sampled_from((1, 2, 4, 8)))
def test_runs_cover_every_column_group_and_byte_once(columns: int, group_size: int, width: int) -> None:
    parts = pack.runs(columns, group_size)
    for axis in ("columns", "groups"):
        covered = [index for run in parts for index in range(10**6)[getattr(run, axis)]]
        assert covered == list(range(columns if axis == "columns" else pack.group_count(columns, group_size)))
    covered = [index for run in parts for index in range(10**6)[run.bytes(width)]]
    assert covered == list(range(pack.row_bytes(columns, group_size, width)))
    assert sum(run.count * run.length for run in parts) == columns
