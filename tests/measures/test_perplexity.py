"""Losses against a plain float64 computation, against transformers' own, and against uniform predictions."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.measures import perplexity
from workbench.progress import run

VOCAB = 11


class Bigram(nn.Module):
    """Logits of the next token from the last one alone, with the call and the answer of a transformers model."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        assert not use_cache
        assert not torch.is_grad_enabled()
        return SimpleNamespace(logits=self.table[input_ids])


@pytest.fixture
def bigram() -> Bigram:
    return Bigram(3 * torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(VOCAB, (5, 17), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_losses_are_those_of_a_plain_double_computation(bigram: Bigram, ids: torch.Tensor, batch: int):
    losses = run(perplexity.token_losses(bigram, ids, batch=batch))
    assert losses.shape == (5, 16)
    assert losses.dtype == torch.float32
    table = bigram.table.detach().double()
    for window in range(5):
        for place in range(16):
            logits = table[ids[window, place]]
            expected = -float(logits[ids[window, place + 1]]) + math.log(float(logits.exp().sum()))
            assert float(losses[window, place]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_uniform_predictions_have_the_vocabulary_as_perplexity(ids: torch.Tensor):
    summary = perplexity.summarize(run(perplexity.token_losses(Bigram(torch.full((VOCAB, VOCAB), 2.5)), ids)))
    assert summary.perplexity == pytest.approx(VOCAB, rel=1e-6)
    assert summary.loss == pytest.approx(math.log(VOCAB), rel=1e-6)
    assert summary.standard_error == pytest.approx(0, abs=1e-7)


def test_summary_by_hand():
    losses = torch.tensor([[1.0, 3.0], [4.0, 6.0], [0.0, 4.0]])
    summary = perplexity.summarize(losses)
    assert summary.loss == pytest.approx(3.0)
    assert summary.standard_error == pytest.approx(math.sqrt((1 + 4 + 1) / 2 / 3))
    assert summary.perplexity == pytest.approx(math.exp(3))
    assert math.isnan(perplexity.summarize(losses[:1]).standard_error)
    assert perplexity.summarize(torch.full((2, 2), 1e4)).perplexity == math.inf


def test_pairing_takes_the_difference_between_windows_out():
    generator = torch.Generator().manual_seed(3)
    hard_or_easy = 10 * torch.rand(40, 1, generator=generator)
    reference = hard_or_easy + torch.rand(40, 16, generator=generator)
    worse = reference + 0.1 + 0.01 * torch.randn(40, 16, generator=generator)
    paired = perplexity.paired_difference(worse, reference)
    single = perplexity.summarize(worse)
    per_window = (worse - reference).double().mean(1)
    assert paired.difference == pytest.approx(float(per_window.mean()))
    assert paired.standard_error == pytest.approx(float(per_window.std()) / math.sqrt(40))
    assert abs(paired.difference - 0.1) < 4 * paired.standard_error
    assert paired.standard_error < single.standard_error / 100
    assert math.isnan(perplexity.paired_difference(worse[:1], reference[:1]).standard_error)


def test_progress_names_every_batch_and_leaves_the_grad_mode_alone(bigram: Bigram, ids: torch.Tensor):
    seen = []
    for progress in perplexity.token_losses(bigram, ids, batch=2):
        seen.append((progress.done, progress.total))
        assert torch.is_grad_enabled()
    assert seen == [(0, 5), (2, 5), (4, 5)]


@pytest.mark.parametrize(("shape", "batch"), [((0, 8), 8), ((3, 1), 8), ((3, 8), 0)])
def test_what_has_no_loss_is_refused(bigram: Bigram, shape: tuple[int, int], batch: int):
    with pytest.raises(WorkbenchError, match=f"{shape[0]} windows of {shape[1]} tokens in batches of {batch}"):
        run(perplexity.token_losses(bigram, torch.zeros(shape, dtype=torch.int64), batch=batch))
