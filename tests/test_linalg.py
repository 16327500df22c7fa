"""Factors against dense float64 algebra, rank correlation against scipy, selection against counting."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

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


numbers = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=40)


@given(numbers)
def test_spearman_agrees_with_scipy_also_on_ties(pairs: list[tuple[int, int]]):
    first, second = torch.tensor(pairs).T
    ours = linalg.spearman(first, second)
    if first.unique().numel() == 1 or second.unique().numel() == 1:
        assert math.isnan(ours)
    else:
        theirs, _ = reference.spearmanr(first.numpy(), second.numpy())
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_ranks_share_their_mean_among_ties():
    assert linalg.ranks(torch.tensor([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [4.0, 1.0, 4.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("first", "second"), [([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0, 3.0]), ([1.0, math.nan], [1.0, 2.0])]
)
def test_spearman_refuses_what_has_no_ranks(first: list[float], second: list[float]):
    with pytest.raises(WorkbenchError):
        linalg.spearman(torch.tensor(first), torch.tensor(second))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_gini_is_half_the_relative_mean_absolute_difference(values: list[float]):
    """Its definition as a sum over all pairs, against the sorted formula."""
    x = torch.tensor(values, dtype=torch.float64)
    if float(x.sum()) == 0:
        assert linalg.gini(x) == 0
        return
    pairs = (x[:, None] - x[None, :]).abs().mean() / (2 * x.mean())
    assert linalg.gini(x) == pytest.approx(float(pairs), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_ascending_sorts_a_copy(dtype: torch.dtype):
    values = torch.tensor([[3.0, -1.0], [2.0, 3.0]]).to(dtype)
    assert linalg.ascending(values).tolist() == [-1, 2, 3, 3]
    assert values.flatten().tolist() == [3, -1, 2, 3]


def test_gini_of_one_that_holds_all_and_of_equals():
    assert linalg.gini(torch.tensor([[0.0, 0.0], [0.0, 7.0]])) == pytest.approx(0.75)
    assert linalg.gini(torch.full((3, 3), 2.5)) == pytest.approx(0, abs=1e-12)
    for bad in (torch.tensor([1.0, -1.0]), torch.empty(0), torch.tensor([math.inf, 1.0])):
        with pytest.raises(WorkbenchError):
            linalg.gini(bad)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_topk_takes_exactly_k_none_of_them_below_one_left_out(values: list[int], data: st.DataObject):
    scores = torch.tensor(values).float()
    k = data.draw(st.integers(0, len(values)))
    mask = linalg.topk_mask(scores, k)
    assert int(mask.sum()) == k
    if 0 < k < len(values):
        assert float(scores[mask].min()) >= float(scores[~mask].max())


def test_topk_breaks_ties_by_place_and_works_by_row():
    scores = torch.tensor([[1.0, 5.0, 5.0, 5.0], [9.0, 2.0, 2.0, 1.0]])
    assert linalg.topk_mask(scores, 3).tolist() == [[False, True, True, False], [True, False, False, False]]
    by_row = linalg.topk_mask(scores, 2, by_row=True)
    assert by_row.tolist() == [[False, True, True, False], [True, True, False, False]]
    assert not linalg.topk_mask(scores, 0).any()
    assert linalg.topk_mask(scores, 4, by_row=True).all()


@pytest.mark.parametrize("k", [-1, 5])
def test_topk_refuses_counts_that_are_not_there(k: int):
    with pytest.raises(WorkbenchError, match=f"the {k} largest of 4"):
        linalg.topk_mask(torch.ones(2, 4), k, by_row=True)
    with pytest.raises(WorkbenchError, match="NaN"):
        linalg.topk_mask(torch.tensor([1.0, math.nan]), 1)
