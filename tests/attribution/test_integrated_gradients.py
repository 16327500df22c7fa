"""Integrated gradients and their baselines: against Captum, and the sum that they promise."""

from __future__ import annotations

import pytest
import torch
from attribution_models import IDS, LOGIT, adapted, explain, objective, words
from captum.attr import IntegratedGradients

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import make_baseline, mean_embedding
from workbench.errors import WorkbenchError
from workbench.registry import attribution


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_integrated_gradients_equal_captum_with_the_same_rule(any_family: Adapter) -> None:
    embeds = any_family.embed(IDS)
    start = make_baseline(any_family, IDS, embeds, "unk")
    theirs = IntegratedGradients(objective(any_family)).attribute(
        embeds, baselines=start.embeds, n_steps=10, method="gausslegendre"
    )
    ours = explain("integrated_gradients", any_family, baseline="unk", nodes=10, max_nodes=10, batch=4)
    torch.testing.assert_close(ours.scores, theirs[0].double().sum(-1), atol=1e-5, rtol=1e-4)
    assert ours.nodes == 10


def check_completeness(adapter: Adapter, baseline: str) -> None:
    result = explain("integrated_gradients", adapter, baseline=baseline, nodes=16)
    assert result.baseline_value is not None
    change = result.value - result.baseline_value
    assert float(result.scores.abs().max()) > 0.05
    assert float(result.scores.sum()) == pytest.approx(change, abs=1e-3 * max(abs(change), 0.1))
    assert result.completeness_gap == pytest.approx(change - float(result.scores.sum()), abs=1e-12)
    assert result.baseline == baseline


def test_integrated_gradients_are_complete_on_every_family(any_family: Adapter) -> None:
    check_completeness(any_family, "eos")


@pytest.mark.parametrize("baseline", ["unk", "mean"])
def test_integrated_gradients_are_complete_from_other_baselines(either: Adapter, baseline: str) -> None:
    check_completeness(either, baseline)


def test_completeness_is_as_good_as_the_precision() -> None:
    result = explain("integrated_gradients", adapted("gpt2", torch.float64), tolerance=1e-8)
    assert result.relative_gap is not None
    assert result.relative_gap < 1e-8
    assert result.notes == ("1 token is held fixed: its score is 0 by construction",)


def test_nodes_double_until_the_tolerance_and_stop_at_the_most(llama: Adapter) -> None:
    coarse = explain("integrated_gradients", llama, nodes=2, tolerance=1e-1)
    fine = explain("integrated_gradients", llama, nodes=2, tolerance=1e-4)
    assert coarse.nodes is not None
    assert fine.nodes is not None
    assert coarse.nodes < fine.nodes
    assert fine.nodes in (2, 4, 8, 16, 32, 64)
    never = explain("integrated_gradients", llama, nodes=2, max_nodes=3, tolerance=0.0)
    assert never.nodes == 3
    assert "take them as a ranking" in never.notes[-1]


def test_integrated_gradients_hold_control_tokens_fixed(llama: Adapter) -> None:
    result = explain("integrated_gradients", llama)
    assert result.held_fixed == (True, *[False] * 7)
    assert float(result.scores[0]) == 0.0


def test_a_prompt_equal_to_its_baseline_scores_zero(llama: Adapter) -> None:
    result = attribution.get("integrated_gradients")(llama, torch.tensor([[1, 2, 2]]), LOGIT)
    assert result.scores.tolist() == [0.0, 0.0, 0.0]
    assert result.completeness_gap == 0.0


def test_the_zero_baseline_is_refused_without_added_positions(llama: Adapter) -> None:
    with pytest.raises(WorkbenchError, match=r"adds no position embeddings.*choose one of: auto, eos, unk, mean"):
        explain("integrated_gradients", llama, baseline="zero")


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_the_zero_baseline_is_complete_with_added_positions(family: str) -> None:
    result = explain("integrated_gradients", adapted(family), baseline="zero")
    assert result.relative_gap is not None
    assert result.relative_gap <= 1e-3


@pytest.mark.parametrize(
    ("special", "expected"),
    [
        ({"eos_token": "</s>", "unk_token": "<unk>"}, "eos"),
        ({"unk_token": "<unk>"}, "unk"),
        ({"pad_token": "<pad>"}, "mean"),
    ],
)
def test_the_default_baseline_is_the_first_that_exists(llama: Adapter, special: dict[str, str], expected: str) -> None:
    adapter = Adapter(llama.model, words(**special))
    assert explain("integrated_gradients", adapter).baseline == expected


def test_a_baseline_token_that_is_missing_is_refused(llama: Adapter) -> None:
    adapter = Adapter(llama.model, words(pad_token="<pad>"))
    with pytest.raises(WorkbenchError, match="no eos token"):
        explain("integrated_gradients", adapter, baseline="eos")


def test_the_mean_embedding_is_that_of_what_the_module_gives() -> None:
    gemma = adapted("gemma")
    expected = gemma.model.get_input_embeddings().weight.double().mean(0) * 32**0.5  # Gemma scales by sqrt(hidden)
    torch.testing.assert_close(mean_embedding(gemma), expected, atol=1e-6, rtol=1e-5)


def test_memory_is_bounded_by_the_batch(llama: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    inner = llama.gradients
    monkeypatch.setattr(llama, "gradients", lambda embeds, f: sizes.append(len(embeds)) or inner(embeds, f))
    explain("integrated_gradients", llama, nodes=10, max_nodes=10, batch=4)
    assert sizes == [4, 4, 2]
    sizes.clear()
    monkeypatch.setattr("workbench.attribution.sampling.TOKENS_AT_ONCE", 16)
    explain("integrated_gradients", llama, nodes=5, max_nodes=5, batch=4)
    assert sizes == [2, 2, 1]
