"""Round to nearest: its grid, its error, and the bits it stores, each against something worked out elsewhere."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.measures.error import sqnr_db
from workbench.quantizers.rtn import rtn
from workbench.quantizers.weight import AffineWeight
from workbench.scheme import GROUP_SIZES, WIDTHS, affine_stored_bits


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return 0.02 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def steps_and_zeros(held: AffineWeight) -> tuple[torch.Tensor, torch.Tensor]:
    """The step and the code of zero for every weight, float64."""
    packed = held.packed
    width = packed.shape[1] if packed.group_size == -1 else packed.group_size
    zero = torch.full_like(packed.scale, 2 ** (packed.bits - 1)) if packed.zero is None else packed.zero
    parts = (part.double().repeat_interleave(width, dim=1)[:, : packed.shape[1]] for part in (packed.scale, zero))
    step, zeros = parts
    return step, zeros


def test_one_group_by_hand():
    """Range -1 to 2 at 2 bits: step 1, zero at code 1, levels -1 0 1 2, ties to even."""
    held = rtn(torch.tensor([[-1.0, 2.0, 0.4, 0.6, 1.5, 0.5, -0.2, 0.0]]), bits=2, group_size=-1)
    assert held.dequantize().tolist() == [[-1, 2, 0, 1, 2, 0, 0, 0]]
    assert held.packed.codes().tolist() == [[0, 3, 1, 2, 3, 1, 1, 1]]
    assert held.nominal_bits == 2


def test_symmetric_by_hand():
    """Greatest magnitude 3.5 at 3 bits: step 1 around code 4, so the levels are -4 to 3 and 3.5 is clamped."""
    held = rtn(torch.tensor([[3.5, -3.5, 1.2, 0.0]]), bits=3, group_size=-1, symmetric=True)
    assert held.dequantize().tolist() == [[3, -4, 1, 0]]
    assert "zero" not in held.tensors()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_group_that_lies_on_one_side_of_zero_is_represented(sign: int):
    """The AWQ code's grid turns [0.5, 0.6] at 4 bits into 0.1; with zero inside the range the step is 0.04."""
    weight = sign * torch.linspace(0.5, 0.6, 64).reshape(1, 64)
    dense = rtn(weight, bits=4, group_size=64).dequantize()
    assert float((dense - weight).abs().max()) <= 0.02 * 1.01
    assert sorted(set(dense.abs().flatten().tolist())) == pytest.approx([0.48, 0.52, 0.56, 0.6], rel=1e-3)


def test_groups_that_are_all_zero_or_all_alike():
    weight = torch.zeros(3, 64)
    weight[1], weight[2] = 0.37, -0.37
    dense = rtn(weight, bits=2, group_size=32).dequantize()
    torch.testing.assert_close(dense, weight, rtol=1e-3, atol=0)
    assert (dense[0] == 0).all()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group_size", GROUP_SIZES)
def test_every_weight_goes_to_the_nearest_level(bits: int, symmetric: bool, group_size: int):
    """Against all 2^bits levels, one by one, in float64."""
    weight = gaussian(4, 172, seed=bits)
    held = rtn(weight, bits=bits, group_size=group_size, symmetric=symmetric)
    step, zero = steps_and_zeros(held)
    levels = (torch.arange(2**bits).double()[:, None, None] - zero) * step
    nearest = (levels - weight.double()).abs().amin(0)
    error = (held.dequantize().double() - weight.double()).abs()
    torch.testing.assert_close(error, nearest, rtol=0, atol=1e-6 * float(step.max()))


scales = st.sampled_from([1e-6, 1e-4, 0.02, 1.0, 300.0])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(WIDTHS), st.booleans(), st.sampled_from(GROUP_SIZES), scales, st.integers(0, 999))
def test_no_error_exceeds_half_a_step_but_for_the_rounding_of_the_step(
    bits: int, symmetric: bool, group_size: int, size: float, seed: int
):
    """fp16 moves a step by 2^-11 of itself, by 2^-25 where it is subnormal, and the far end 2^b - 1 times as far."""
    weight = gaussian(3, 100, seed) * 50 * size + size * (seed % 3 - 1)
    held = rtn(weight, bits=bits, group_size=group_size, symmetric=symmetric)
    step, _ = steps_and_zeros(held)
    slack = (2**bits - 1) * torch.maximum(step / 2**11, torch.tensor(2.0**-25))
    error = (held.dequantize().double() - weight.double()).abs()
    assert bool((error <= (step / 2 + slack) * (1 + 1e-6)).all())


@given(st.sampled_from(WIDTHS), st.booleans(), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_zero_stays_zero(bits: int, symmetric: bool, seed: int):
    weight = gaussian(2, 96, seed)
    weight[:, ::5] = 0
    dense = rtn(weight, bits=bits, group_size=32, symmetric=symmetric).dequantize()
    assert (dense[:, ::5] == 0).all()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 9), st.integers(1, 400), st.sampled_from(WIDTHS), st.sampled_from(GROUP_SIZES), st.booleans())
def test_stored_bits_are_the_ones_told_from_the_shape_alone(
    rows: int, columns: int, bits: int, group_size: int, symmetric: bool
):
    held = rtn(gaussian(rows, columns), bits=bits, group_size=group_size, symmetric=symmetric)
    assert held.stored_bits == pytest.approx(affine_stored_bits(rows, columns, bits, group_size, symmetric), rel=1e-12)


@pytest.mark.parametrize("columns", [2048, 4096])
@pytest.mark.parametrize(
    ("bits", "group_size", "symmetric", "stored"),
    [
        (4, 128, False, 4.25),
        (3, 128, False, 3.25),
        (2, 128, False, 2.25),
        (4, 64, False, 4.5),
        (3, 64, False, 3.5),
        (3, 64, True, 3.25),
        (8, 32, False, 9.0),
        (1, 32, True, 1.5),
    ],
)
def test_published_sizes_of_affine_grids(columns: int, bits: int, group_size: int, symmetric: bool, stored: float):
    """b + 32 / g with a 16-bit scale and zero point, b + 16 / g without the zero point, whatever the matrix."""
    held = rtn(gaussian(4, columns), bits=bits, group_size=group_size, symmetric=symmetric)
    assert held.stored_bits == stored
    assert held.nominal_bits == bits


@pytest.mark.parametrize(("columns", "stored"), [(2048, 4.015625), (4096, 4.0078125)])
def test_a_whole_row_shares_one_scale(columns: int, stored: float):
    assert rtn(gaussian(2, columns), bits=4, group_size=-1).stored_bits == stored


def test_a_short_last_group_is_stored_at_its_own_length():
    """172 = 2 x 64 + 44: at 3 bits 16 + 8 bytes a full group, 11 + 6 for the last, and 3 x 4 of scales and zeros."""
    held = rtn(gaussian(5, 172), bits=3, group_size=64)
    assert held.nbytes == 5 * (2 * 24 + 17 + 12)


def test_a_bit_is_worth_six_decibels():
    """The noise of rounding is step^2 / 12, and the step shrinks by (2^a - 1) / (2^b - 1)."""
    weight = gaussian(64, 2048)
    sqnr = {}
    for bits in (3, 4, 8):
        held = rtn(weight, bits=bits, group_size=128)
        sqnr[bits] = sqnr_db(weight, held.dequantize())
        step, _ = steps_and_zeros(held)
        expected = 10 * math.log10(float(weight.double().square().mean() / (step.square().mean() / 12)))
        assert sqnr[bits] == pytest.approx(expected, abs=0.15)
    assert sqnr[4] - sqnr[3] == pytest.approx(20 * math.log10(15 / 7), abs=0.1)
    assert (sqnr[8] - sqnr[4]) / 4 == pytest.approx(6.02, abs=0.2)


def test_smaller_groups_do_better_and_a_zero_point_helps_lopsided_weights():
    weight = gaussian(32, 1024)
    by_group = [sqnr_db(weight, rtn(weight, bits=4, group_size=size).dequantize()) for size in (-1, 128, 64, 32)]
    assert by_group == sorted(by_group)
    lopsided = weight.abs()
    plain, symmetric = (
        sqnr_db(lopsided, rtn(lopsided, bits=4, group_size=64, symmetric=choice).dequantize())
        for choice in (False, True)
    )
    assert plain > symmetric + 5


def test_the_layout_of_the_weight_in_memory_does_not_matter():
    weight = gaussian(128, 8).T
    assert not weight.is_contiguous()
    assert torch.equal(
        rtn(weight, bits=3, group_size=32).dequantize(), rtn(weight.clone(), bits=3, group_size=32).dequantize()
    )


def test_weights_beyond_the_reach_of_an_fp16_scale_are_refused():
    with pytest.raises(WorkbenchError, match="fp16"):
        rtn(torch.full((1, 32), 1e6), bits=2, group_size=32)
