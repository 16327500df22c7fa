"""Masks that are learned: what they reach against every other mask of the same size, and what is refused."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from attribution_models import IDS, LOGIT, OTHER, adapted, explain

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import make_baseline
from workbench.attribution.mask_descent import descend, keep_largest, reach
from workbench.attribution.masking import mask_prompt
from workbench.attribution.meaningful_perturbation import jumps
from workbench.attribution.targets import Target, parse_target
from workbench.errors import WorkbenchError
from workbench.registry import attribution

STORY = "Once upon a time, there was a little girl named"


def all_masks(players: int, count: int) -> torch.Tensor:
    return torch.stack([torch.eye(players)[list(chosen)].sum(0) for chosen in combinations(range(players), count)])


def effects(toy: Adapter) -> torch.Tensor:
    """What each token of the linear model brings."""
    step = toy.embed(IDS) - make_baseline(toy, IDS, toy.embed(IDS), "eos").embeds
    return (step[0] @ toy.model.head.weight[40].detach())[1:]


@pytest.mark.parametrize("toy", [1], indirect=True, ids=["linear"])
@pytest.mark.parametrize("goal", ["keep", "delete"])
def test_the_best_mask_of_a_linear_model_is_its_largest_terms(goal: str, toy: Adapter) -> None:
    result = explain("extremal_mask", toy, baseline="eos", goal=goal, areas="0.43")
    best = effects(toy).topk(3).indices
    assert set(result.scores[1:].topk(3).indices.tolist()) == set(best.tolist())
    value = float(toy.predict(IDS)[40])
    kept = result.baseline_value + float(effects(toy)[best].sum()) if goal == "keep" else None
    expected = kept if kept is not None else value - float(effects(toy)[best].sum())
    assert f"3 of 7: {expected:.4g}" in result.notes[1]


@pytest.mark.slow
def test_an_extremal_mask_beats_other_masks_of_its_size(either: Adapter) -> None:
    shares = []
    for target in (LOGIT, OTHER, *(Target("logit", (index,), ("",)) for index in (10, 20, 30))):
        prompt = mask_prompt(either, IDS, target, "eos", 64)
        scores = attribution.get("extremal_mask")(either, IDS, target, baseline="eos", areas="0.3").scores[1:]
        reached = float(prompt.values(keep_largest(scores[None], [2])))
        shares.append(float((prompt.values(all_masks(7, 2).double()) <= reached + 1e-6).double().mean()))
    assert sum(shares) / len(shares) > 0.8  # a random mask: 0.52
    assert min(shares) > 0.5


def test_an_extremal_mask_beats_random_masks_on_a_trained_model(stories: Adapter) -> None:
    prompt = stories.encode(STORY)
    target = parse_target(stories, prompt, "logprob: Lily")
    masking = mask_prompt(stories, prompt.ids, target, "auto", 64)
    result = attribution.get("extremal_mask")(stories, prompt.ids, target, areas="0.2, 0.4")
    draws = torch.rand(60, masking.players, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for place, count in enumerate(round(share * masking.players) for share in (0.2, 0.4)):
        random = masking.values(keep_largest(draws, [count] * 60))
        reached = float(result.notes[-2].split(f"{count} of {masking.players}: ")[1].split(";")[0].split(" (")[0])
        assert reached > float(random.quantile(0.9)), place


def test_areas_that_are_no_shares_are_refused(llama: Adapter) -> None:
    for areas in ("0.1, much", "", "0.1, 1", "-0.1", "nan"):
        with pytest.raises(WorkbenchError, match=r"write numbers above 0 and below 1 with commas between"):
            explain("extremal_mask", llama, areas=areas)


def test_the_number_of_kept_tokens_that_is_enough_is_told(stories: Adapter) -> None:
    prompt = stories.encode(STORY)
    result = attribution.get("extremal_mask")(stories, prompt.ids, parse_target(stories, prompt, "logprob: Lily"))
    assert "enough for 90% of the change" in result.notes[-1]


def test_a_deletion_takes_the_target_down_more_cheaply_than_random_ones(stories: Adapter) -> None:
    prompt = stories.encode(STORY)
    target = parse_target(stories, prompt, "logprob: Lily")
    result = attribution.get("meaningful_perturbation")(stories, prompt.ids, target)
    masking = mask_prompt(stories, prompt.ids, target, "auto", 64)
    deleted = result.scores[1:]
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.stack([deleted[torch.randperm(len(deleted), generator=generator)] for _ in range(60)])
    values = masking.values(1 - torch.cat([deleted[None], shuffled]))
    assert 0 < float(deleted.sum()) < 0.6 * len(deleted)
    assert float(values[0]) < float(values[1:].min())


@pytest.mark.parametrize("toy", [1], indirect=True, ids=["linear"])
def test_a_linear_model_deletes_what_is_worth_its_price(toy: Adapter) -> None:
    """Without smoothness each token goes when what it brings, in units of the reach, is more than l1 / tokens."""
    masking = mask_prompt(toy, IDS, LOGIT, "eos", 16)
    worth = effects(toy) / reach(masking, masking.ends())
    result = explain("meaningful_perturbation", toy, baseline="eos", tv=0.0, l1=0.7)
    assert result.scores[1:].tolist() == pytest.approx((worth > 0.1).double().tolist())
    assert explain("meaningful_perturbation", toy, baseline="eos", l1=50.0).scores.tolist() == [0.0] * 8


def test_smoothness_is_the_mean_jump() -> None:
    masks = torch.tensor([[1.0, 1.0, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    assert jumps(masks, 1.0).tolist() == pytest.approx([1 / 3, 0.0])
    assert jumps(masks, 3.0).tolist() == pytest.approx([0.25 / 3, 0.0])
    assert jumps(masks[:, :1], 2.0).tolist() == [0.0, 0.0]


def test_rows_are_learned_as_if_alone() -> None:
    prompt = mask_prompt(adapted("llama"), IDS, LOGIT, "eos", 16)
    start = torch.tensor([[0.5] * 7, [0.2] * 7], dtype=torch.float64)

    def price(masks: torch.Tensor, _: float) -> torch.Tensor:
        return masks.sum(1)

    both = list(descend(prompt, start, -1.0, price, 5, 0.1))[-1]
    alone = torch.cat([list(descend(prompt, row[None], -1.0, price, 5, 0.1))[-1] for row in start])
    torch.testing.assert_close(both, alone, atol=1e-5, rtol=1e-4)
    assert float(both.min()) >= 0
