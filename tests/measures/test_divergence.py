"""Divergence and agreement of predictions, against torch.distributions, plain float64 and counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from workbench.errors import WorkbenchError
from workbench.measures import agreement, divergence


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 4 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_divergence_is_that_of_torch_distributions():
    p, q = logits(0, 3, 7, 50), logits(1, 3, 7, 50)
    ours = divergence.kl(p, q)
    expected = kl_divergence(Categorical(logits=p.double()), Categorical(logits=q.double()))
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=0)
    assert not torch.allclose(ours, divergence.kl(q, p), rtol=0.1)


def test_tiny_divergences_are_not_lost_in_rounding():
    """For a small shift e of the logits the divergence is half the variance of e under p, far below float32's eps."""
    p = logits(2, 64, 200)
    shift = 1e-5 * logits(3, 64, 200)
    weight = p.double().softmax(-1)
    moved = p.double() + shift
    mean = (weight * shift).sum(-1, keepdim=True)
    half_variance = 0.5 * (weight * (shift - mean) ** 2).sum(-1)
    torch.testing.assert_close(divergence.kl(p.double(), moved), half_variance, rtol=1e-2, atol=1e-16)


def test_no_divergence_from_itself_nor_from_a_constant_shift():
    p = logits(4, 5, 30)
    assert (divergence.kl(p, p) == 0).all()
    assert float(divergence.kl(p, p + 16).max()) < 1e-10


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    p, q = logits(5, 4, 9, 20), logits(6, 4, 9, 20)
    whole = divergence.kl(p, q)
    monkeypatch.setattr(divergence, "ELEMENTS_AT_ONCE", 100)
    torch.testing.assert_close(divergence.kl(p, q), whole, rtol=1e-12, atol=0)


def test_ruled_out_tokens():
    p = torch.tensor([[0.0, 0.0, -math.inf]])
    assert float(divergence.kl(p, torch.zeros(1, 3))) == pytest.approx(math.log(1.5), rel=1e-12)
    assert float(divergence.kl(p, p)) == 0
    assert float(divergence.kl(torch.zeros(1, 3), p)) == math.inf


def test_summary_agrees_with_numpy():
    values = torch.rand(3, 37, generator=torch.Generator().manual_seed(7))
    summary = divergence.summarize_divergence(values)
    assert summary.mean == pytest.approx(float(values.double().mean()))
    assert summary.p99 == pytest.approx(float(np.quantile(values.numpy().astype("float64"), 0.99)), rel=1e-12)
    assert divergence.summarize_divergence(torch.tensor([2.0])) == (2.0, 2.0)
    with pytest.raises(WorkbenchError, match="at least one token"):
        divergence.summarize_divergence(torch.empty(0))


def test_agreement_counts_positions_with_the_same_winner():
    p = torch.tensor([[[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]], [[0.0, 0.0, 5.0], [1.0, 1.0, 0.0]]])
    q = torch.tensor([[[0.0, 9.0, 8.0], [0.0, 0.1, 0.0]], [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]])
    assert agreement.same_top1(p, q).tolist() == [[True, False], [True, True]]
    assert agreement.top1_agreement(p, q) == 0.75
    assert math.isnan(agreement.top1_agreement(p[:0], q[:0]))
