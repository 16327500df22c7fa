"""Rank correlation against scipy, inequality against its definition, selection against counting."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from workbench import ordering
from workbench.errors import WorkbenchError

numbers = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=40)


@given(numbers)
def test_spearman_agrees_with_scipy_also_on_ties(pairs: list[tuple[int, int]]):
    first, second = torch.tensor(pairs).T
    ours = ordering.spearman(first, second)
    if first.unique().numel() == 1 or second.unique().numel() == 1:
        assert math.isnan(ours)
    else:
        theirs, _ = reference.spearmanr(first.numpy(), second.numpy())
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_ranks_share_their_mean_among_ties():
    assert ordering.ranks(torch.tensor([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [4.0, 1.0, 4.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("first", "second"), [([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0, 3.0]), ([1.0, math.nan], [1.0, 2.0])]
)
def test_spearman_refuses_what_has_no_ranks(first: list[float], second: list[float]):
    with pytest.raises(WorkbenchError):
        ordering.spearman(torch.tensor(first), torch.tensor(second))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_gini_is_half_the_relative_mean_absolute_difference(values: list[float]):
    """Its definition as a sum over all pairs, against the sorted formula."""
    x = torch.tensor(values, dtype=torch.float64)
    if float(x.sum()) == 0:
        assert ordering.gini(x) == 0
        return
    pairs = (x[:, None] - x[None, :]).abs().mean() / (2 * x.mean())
    assert ordering.gini(x) == pytest.approx(float(pairs), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_ascending_sorts_a_copy(dtype: torch.dtype):
    values = torch.tensor([[3.0, -1.0], [2.0, 3.0]]).to(dtype)
    assert ordering.ascending(values).tolist() == [-1, 2, 3, 3]
    assert values.flatten().tolist() == [3, -1, 2, 3]


def test_gini_of_one_that_holds_all_and_of_equals():
    assert ordering.gini(torch.tensor([[0.0, 0.0], [0.0, 7.0]])) == pytest.approx(0.75)
    assert ordering.gini(torch.full((3, 3), 2.5)) == pytest.approx(0, abs=1e-12)
    for bad in (torch.tensor([1.0, -1.0]), torch.empty(0), torch.tensor([math.inf, 1.0])):
        with pytest.raises(WorkbenchError):
            ordering.gini(bad)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_topk_takes_exactly_k_none_of_them_below_one_left_out(values: list[int], data: st.DataObject):
    scores = torch.tensor(values).float()
    k = data.draw(st.integers(0, len(values)))
    mask = ordering.topk_mask(scores, k)
    assert int(mask.sum()) == k
    if 0 < k < len(values):
        assert float(scores[mask].min()) >= float(scores[~mask].max())


def test_topk_breaks_ties_by_place_and_works_by_row():
    scores = torch.tensor([[1.0, 5.0, 5.0, 5.0], [9.0, 2.0, 2.0, 1.0]])
    assert ordering.topk_mask(scores, 3).tolist() == [[False, True, True, False], [True, False, False, False]]
    by_row = ordering.topk_mask(scores, 2, by_row=True)
    assert by_row.tolist() == [[False, True, True, False], [True, True, False, False]]
    assert not ordering.topk_mask(scores, 0).any()
    assert ordering.topk_mask(scores, 4, by_row=True).all()


@pytest.mark.parametrize("k", [-1, 5])
def test_topk_refuses_counts_that_are_not_there(k: int):
    with pytest.raises(WorkbenchError, match=f"the {k} largest of 4"):
        ordering.topk_mask(torch.ones(2, 4), k, by_row=True)
    with pytest.raises(WorkbenchError, match="NaN"):
        ordering.topk_mask(torch.tensor([1.0, math.nan]), 1)
