"""Errors of one matrix: closed forms, and the Gram's answer against the measured one."""

from __future__ import annotations

import math

import pytest
import torch

from workbench.measures import error


@pytest.fixture
def layer() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A weight, a stand-in whose error is not alike in all columns, and inputs of very different scales."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(20, 48, generator=generator)
    quantized = weight + 0.05 * torch.randn(20, 48, generator=generator) * torch.linspace(0, 2, 48)
    inputs = torch.randn(300, 48, generator=generator) * torch.logspace(-2, 2, 48)
    return weight, quantized, inputs


def test_output_error_from_the_gram_is_the_measured_one(layer: tuple[torch.Tensor, torch.Tensor, torch.Tensor]):
    weight, quantized, inputs = layer
    gram = (inputs.double().T @ inputs.double() / len(inputs)).float()
    measured = error.output_error_measured(weight, quantized, inputs)
    assert error.output_error_from_gram(weight, quantized, gram) == pytest.approx(measured, rel=1e-5)
    by_hand = (inputs @ (weight - quantized).T).norm() / (inputs @ weight.T).norm()
    assert measured == pytest.approx(float(by_hand), rel=1e-4)
    assert measured > 1.2 * error.weight_error(weight, quantized)


def test_channel_errors_are_the_output_error_of_single_rows(layer: tuple[torch.Tensor, torch.Tensor, torch.Tensor]):
    weight, quantized, inputs = layer
    gram = (inputs.T @ inputs / len(inputs)).float()
    channels = error.channel_errors(weight, quantized, gram)
    rows = error.row_weight_errors(weight, quantized)
    for row in (0, 7, 19):
        pair = weight[row : row + 1], quantized[row : row + 1]
        assert float(channels[row]) == pytest.approx(error.output_error_measured(*pair, inputs), rel=1e-5)
        assert float(rows[row]) == pytest.approx(error.weight_error(*pair), rel=1e-9)


def test_splitting_the_rows_changes_nothing(
    layer: tuple[torch.Tensor, torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
):
    weight, quantized, inputs = layer
    gram = inputs.T @ inputs

    def all_of_them() -> list[float]:
        pair = weight, quantized
        return [error.weight_error(*pair), error.output_error_from_gram(*pair, gram), error.cosine(*pair)]

    whole = all_of_them()
    monkeypatch.setattr(error, "ROWS_AT_ONCE", 7)
    assert all_of_them() == pytest.approx(whole, rel=1e-12)


def test_an_error_of_a_tenth():
    """Orthogonal to the weight, a tenth of its norm: 20 dB, and the cosine of atan(0.1)."""
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    quantized = weight + 0.1 * torch.tensor([[-4.0, 3.0], [0.0, 0.0]])
    assert error.weight_error(weight, quantized) == pytest.approx(0.1, rel=1e-6)
    assert error.sqnr_db(weight, quantized) == pytest.approx(20.0, rel=1e-6)
    assert error.cosine(weight, quantized) == pytest.approx(1 / math.sqrt(1.01), rel=1e-6)
    assert error.row_weight_errors(weight, quantized).tolist() == pytest.approx([0.1, 0.0], rel=1e-6)


def test_halving_a_step_is_six_decibels():
    weight = torch.linspace(-1, 1, 4096).reshape(8, 512)
    rounded = [(weight * steps).round() / steps for steps in (64, 128)]
    gained = error.sqnr_db(weight, rounded[1]) - error.sqnr_db(weight, rounded[0])
    assert gained == pytest.approx(20 * math.log10(2), abs=0.05)


def test_closed_forms_of_scaling():
    weight = torch.randn(5, 9, generator=torch.Generator().manual_seed(2))
    assert error.cosine(weight, 0.25 * weight) == pytest.approx(1.0, rel=1e-6)
    assert error.cosine(weight, -weight) == pytest.approx(-1.0, rel=1e-6)
    assert error.sqnr_db(weight, 0.5 * weight) == pytest.approx(20 * math.log10(2), rel=1e-6)
    assert error.output_error_measured(weight, torch.zeros_like(weight), torch.eye(9)) == pytest.approx(1.0)


def test_what_did_not_change_and_what_was_nothing():
    weight, zero, gram = torch.ones(3, 4), torch.zeros(3, 4), torch.eye(4)
    assert error.weight_error(weight, weight) == 0
    assert error.sqnr_db(weight, weight) == math.inf
    assert error.output_error_from_gram(zero, zero, gram) == 0
    assert error.output_error_from_gram(zero, weight, gram) == math.inf
    assert error.output_error_from_gram(weight, weight + 1, 0 * gram) == 0  # an input that is always zero hides all
    assert error.channel_errors(zero, zero, gram).tolist() == [0, 0, 0]
    assert error.channel_errors(zero, weight, gram).tolist() == [math.inf] * 3
    assert math.isnan(error.cosine(weight, zero))


def test_half_precision_is_widened_before_the_difference_is_taken():
    weight = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16)
    quantized = torch.tensor([[1.001, 2.0]])
    assert error.weight_error(weight, quantized) == pytest.approx(0.001 / math.sqrt(5), rel=1e-3)


def test_a_non_finite_stand_in_gives_no_finite_error():
    weight = torch.ones(2, 2)
    assert not math.isfinite(error.weight_error(weight, torch.full((2, 2), math.nan)))
    assert not math.isfinite(error.sqnr_db(weight, torch.full((2, 2), math.inf)))
