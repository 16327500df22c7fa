"""Damped Hessians and their factors against dense float64 algebra."""

from __future__ import annotations

import math

import pytest
import torch

from workbench import linalg
from workbench.errors import WorkbenchError


def gram_of(tokens: int, columns: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, columns, generator=generator, dtype=torch.float64)
    x = x @ (torch.eye(columns) + 0.3 * torch.randn(columns, columns, generator=generator)).double()
    return x.T @ x / tokens


def test_damped_hessian_is_twice_the_gram_plus_a_share_of_its_mean_diagonal():
    gram = gram_of(64, 6).float()
    expected = 2 * gram.double() + 0.01 * 2 * gram.double().diagonal().mean() * torch.eye(6).double()
    torch.testing.assert_close(linalg.damped_hessian(gram, 0.01), expected, rtol=1e-14, atol=0)


def test_dead_columns_are_mended_before_damping_and_leave_the_live_ones_alone():
    gram = gram_of(64, 6)
    wider = torch.zeros(8, 8, dtype=torch.float64)
    live = torch.tensor([0, 1, 3, 4, 5, 7])
    wider[live[:, None], live] = gram
    hessian = linalg.damped_hessian(wider, 0.01)
    torch.testing.assert_close(hessian[live[:, None], live], linalg.damped_hessian(gram, 0.01), rtol=1e-14, atol=0)
    assert linalg.dead_columns(wider).tolist() == [False, False, True, False, False, False, True, False]
    assert float(hessian[2, 2]) == pytest.approx(1.01 * 2 * float(gram.diagonal().mean()), rel=1e-12)


def test_an_input_that_is_always_zero_has_a_hessian_all_the_same():
    hessian = linalg.damped_hessian(torch.zeros(3, 3), 0.5)
    assert torch.equal(hessian, 1.5 * torch.eye(3, dtype=torch.float64))


def test_the_unit_of_the_inputs_does_not_change_how_strong_the_damping_is():
    gram = gram_of(64, 6)
    gram[2, :] = gram[:, 2] = 0
    small = linalg.inverse_cholesky(gram * 1e-8).upper
    torch.testing.assert_close(small * 1e-4, linalg.inverse_cholesky(gram).upper, rtol=1e-9, atol=0)


def test_inverse_factor_is_upper_and_rebuilds_the_inverse():
    gram = gram_of(128, 24)
    factor = linalg.inverse_cholesky(gram, 0.01)
    inverse = torch.linalg.inv(linalg.damped_hessian(gram, 0.01))
    assert factor.damping == 0.01
    assert torch.equal(factor.upper, factor.upper.triu())
    torch.testing.assert_close(factor.inverse(), inverse, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(factor.diagonal(), inverse.diagonal(), rtol=1e-9, atol=0)
    dense, used = linalg.inverse(gram, 0.01)
    assert used == 0.01
    torch.testing.assert_close(dense, inverse, rtol=1e-9, atol=1e-12)


def test_inverse_factor_equals_the_one_of_the_gptq_recipe():
    gram = gram_of(128, 24)
    hessian = linalg.damped_hessian(gram, 0.01)
    recipe = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    torch.testing.assert_close(linalg.inverse_cholesky(gram, 0.01).upper, recipe, rtol=1e-8, atol=1e-12)


def test_f1_squared_factor_diagonal_is_the_inverse_after_elimination():
    """U_jj^2 = [(Hd[j:, j:])^-1]_00, and the full inverse diagonal for j = 0 alone."""
    gram = gram_of(256, 40)
    hessian = linalg.damped_hessian(gram, 0.01)
    factor = linalg.inverse_cholesky(gram, 0.01)
    for column in (0, 7, 20, 39):
        eliminated = torch.linalg.inv(hessian[column:, column:])[0, 0]
        torch.testing.assert_close(factor.upper[column, column].square(), eliminated, rtol=1e-9, atol=0)
    assert float(factor.upper[0, 0] ** 2) == pytest.approx(float(factor.diagonal()[0]), rel=1e-9)
    assert float(factor.upper[20, 20] ** 2) < 0.9 * float(factor.diagonal()[20])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fewer_tokens_than_columns_raise_the_damping_and_say_so(dtype: torch.dtype):
    gram = gram_of(12, 48).to(dtype)
    factor = linalg.inverse_cholesky(gram, 0.0)
    assert 0 < factor.damping <= 1e-3
    inverse = torch.linalg.inv(linalg.damped_hessian(gram, factor.damping))
    torch.testing.assert_close(factor.inverse(), inverse, rtol=1e-5, atol=float(inverse.abs().max()) * 1e-9)
    assert linalg.inverse_cholesky(gram, 0.01).damping == 0.01


def test_damping_grows_tenfold_from_where_it_was_asked_for():
    gram = torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0]))
    gram[0, 1] = gram[1, 0] = 1.005  # no Gram can have this, rounding can: its smallest eigenvalue is -0.005
    assert linalg.inverse_cholesky(gram, 1e-4).damping == pytest.approx(1e-2)
    with pytest.raises(WorkbenchError, match="cannot be factored even with damping 1"):
        linalg.inverse_cholesky(torch.tensor([[1.0, 9.0], [9.0, 1.0]]), 0.01)


@pytest.mark.parametrize(
    ("gram", "damping", "words"),
    [
        (torch.tensor([[1.0, math.nan], [math.nan, 1.0]]), 0.01, "2 of 4 values that are NaN"),
        (torch.tensor([[-1.0, 0.0], [0.0, 1.0]]), 0.01, "negative value on its diagonal"),
        (torch.eye(2), -0.1, "damping has value -0.1"),
        (torch.eye(2), 1.5, "between 0 and 1"),
        (torch.eye(2), math.nan, "damping has value nan"),
    ],
)
def test_bad_grams_and_dampings_are_refused(gram: torch.Tensor, damping: float, words: str):
    with pytest.raises(WorkbenchError, match=words):
        linalg.damped_hessian(gram, damping)
