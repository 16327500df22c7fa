"""Expected gradients: the mean of Captum's integrated gradients over the same random prompts."""

from __future__ import annotations

import pytest
import torch
from attribution_models import IDS, explain, objective
from captum.attr import IntegratedGradients

from workbench.attribution.adapter import Adapter
from workbench.attribution.expected_gradients import random_prompts
from workbench.errors import WorkbenchError

HELD = [True, *[False] * 7]


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_scores_are_the_mean_of_captum_over_the_same_baselines(either: Adapter) -> None:
    embeds, method = either.embed(IDS), IntegratedGradients(objective(either))
    rows = [
        method.attribute(embeds, baselines=either.embed(drawn), n_steps=6, method="gausslegendre")[0].double().sum(-1)
        for drawn in random_prompts(either, IDS, HELD, 3, 9)
    ]
    ours = explain("expected_gradients", either, baselines=3, nodes=6, max_nodes=6, seed=9)
    stacked = torch.stack(rows)
    torch.testing.assert_close(ours.scores, stacked.mean(0), atol=1e-5, rtol=1e-4)
    error = float((stacked.std(0) / 3**0.5).max())
    note = next(note for note in ours.notes if "standard error" in note)
    assert float(note.split("at most ")[1].split(" ")[0]) == pytest.approx(error, rel=0.01)


def test_scores_add_up_to_the_change_from_the_mean_baseline(either: Adapter) -> None:
    result = explain("expected_gradients", either, baselines=4, tolerance=1e-4)
    bases = [float(either.predict(drawn)[40]) for drawn in random_prompts(either, IDS, HELD, 4, 0)]
    assert result.baseline_value == pytest.approx(sum(bases) / 4, abs=1e-5)
    change = result.value - sum(bases) / 4
    assert float(result.scores.sum()) == pytest.approx(change, abs=1e-3 * max(abs(change), 0.1))


def test_control_tokens_are_held_and_never_drawn(llama: Adapter) -> None:
    drawn = torch.cat(random_prompts(llama, IDS, HELD, 200, 0))
    assert set(drawn[:, 0].tolist()) == {1}
    assert not set(drawn[:, 1:].flatten().tolist()) & llama.vocabulary.special_ids
    assert len(set(drawn[:, 1:].flatten().tolist())) > 80
    result = explain("expected_gradients", llama)
    assert result.held_fixed == tuple(HELD)
    assert float(result.scores[0]) == 0.0


def test_the_seed_decides(llama: Adapter) -> None:
    first, again, other = (explain("expected_gradients", llama, baselines=2, seed=seed).scores for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_vocabulary_of_control_tokens_is_refused(llama: Adapter) -> None:
    adapter = Adapter(llama.model, llama.tokenizer)
    adapter.vocabulary.__dict__["special_ids"] = frozenset(range(96))
    with pytest.raises(WorkbenchError, match="all 96 tokens of this vocabulary are control tokens"):
        random_prompts(adapter, IDS, HELD, 1, 0)
