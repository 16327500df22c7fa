"""A model that answers by one word of its prompt: the methods that should find that word do, and metrics know it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file

import workbench
from tools import rank_attribution, train_planted
from tools.rank_attribution import Case, Verdict
from workbench.attribution.adapter import Adapter
from workbench.attribution.targets import Target
from workbench.model.load import LoadedModel, load
from workbench.registry import attribution
from workbench.studies.map_scores import Groups, Judge
from workbench.studies.removal import Removal

blaming = import_module("workbench.studies.blame")
FOUND = 0.95
"""Share of the prompts in which a method has to point at the trigger."""
CLEAR = 2.0
"""Standard deviations by which it has to beat random orders."""
BLAMED = 3
"""The class whose rows are quantized."""


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return rank_attribution.planted()


@pytest.fixture(scope="module")
def asked(adapter: Adapter) -> list[Case]:
    return rank_attribution.cases(adapter)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(str(train_planted.FOLDER))


def test_the_stored_model_answers_every_prompt(adapter: Adapter) -> None:
    assert train_planted.accuracy(adapter.model) == 1.0
    stored = train_planted.FOLDER / "model.safetensors"
    assert stored.stat().st_size <= 500_000
    assert all(bool(weight.isfinite().all()) for weight in load_file(stored).values())


@pytest.mark.slow
def test_the_generator_trains_such_a_model_anew() -> None:
    assert train_planted.accuracy(train_planted.train()) == 1.0


@pytest.mark.parametrize("count", [20, pytest.param(rank_attribution.PROMPTS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["integrated_gradients", "linearised", "occlusion", "deeplift"])
def test_the_trigger_is_found(name: str, count: int, adapter: Adapter, asked: list[Case]) -> None:
    few = asked[:count]
    found = rank_attribution.judge(attribution.get(name), adapter, few, rank_attribution.random_areas(few))
    assert found.tokens >= FOUND
    assert found.z > CLEAR


def test_a_map_of_nothing_is_no_better_than_chance(asked: list[Case]) -> None:
    """The yardstick itself: random maps point right one time in ten, and their deletion is that of random orders."""
    draws = torch.Generator().manual_seed(0)
    few = asked[:40]
    maps = [torch.rand(one.ids.shape[1], generator=draws, dtype=torch.float64) for one in few]
    found: Verdict = rank_attribution.verdict(maps, few, rank_attribution.random_areas(few))
    assert 0.02 <= found.words <= 0.2
    assert abs(found.z) < 3


def test_the_product_with_the_input_fails_and_says_so(adapter: Adapter, asked: list[Case]) -> None:
    """Scores of a model that does not see the scale of its input add up to nothing."""
    told = [attribution.get("input_x_gradient")(adapter, one.ids, one.target) for one in asked[:20]]
    warned = [any("answers alike at any scale" in note for note in result.notes) for result in told]
    assert sum(warned) >= 18


def oracle(case: Case, adapter: Adapter) -> torch.Tensor:
    """What each word really does alone, the trigger first."""
    effects = attribution.get("occlusion")(adapter, case.ids, case.target).scores.abs()
    effects[case.place] = effects.max() + 1
    return effects


def numbers(judge: Judge, scores: torch.Tensor) -> dict[str, float]:
    """Every metric of a map in which a direction is good, turned so that more is better."""
    found = workbench.run(judge.judge(scores, signed=True))
    high = {name: found[name] for name in ("insertion_auc", "comprehensiveness")}
    low = {name: found[name] for name in ("deletion_auc", "sufficiency", "infidelity")}
    z = {name: found[f"{name}_z"] for name in ("deletion", "insertion", "comprehensiveness", "sufficiency")}
    sets = {f"sensitivity_{name}": value for name, value in found["sensitivity_n"].items()}
    good = {"ccs": -1, "pgs": 1, "cgs": -1, "cgs_code": -1, "cgc": -1, "cgc_code": -1}
    groups = {name: good[name] * found["rfxg"][name] for name in good}
    marks = {f"plausible_{name}": value for name, value in found["plausibility"].items()}
    return (
        high
        | {name: -value for name, value in low.items()}
        | {f"z_{k}": v for k, v in z.items()}
        | sets
        | groups
        | marks
    )


def mean_numbers(adapter: Adapter, cases: list[Case], maps: Iterator[torch.Tensor]) -> dict[str, float]:
    """The mean of each metric over prompts."""
    total: dict[str, float] = {}
    for case, scores in zip(cases, maps, strict=True):
        answer, foil = case.target.token_ids[0], train_planted.ANSWERS.start
        foil = foil if foil != answer else foil + 1
        target = Target("contrast", (answer, foil), ("answer", "foil"))
        rest = [token for token in train_planted.ANSWERS if token not in (answer, foil)]
        groups = Groups((answer, rest[0]), (foil, rest[1]))
        removal = Removal(adapter, case.ids, target, (*groups.group, *groups.other))
        judge = Judge(removal, groups, removal.places == case.place)
        workbench.run(judge.prepare())
        for name, value in numbers(judge, scores).items():
            total[name] = total.get(name, 0.0) + value / len(cases)
    return total


def test_every_metric_likes_the_true_cause_first(adapter: Adapter, asked: list[Case]) -> None:
    """The oracle beats random maps and these the oracle turned round, in every number that has a good direction."""
    few, draws = asked[:12], torch.Generator().manual_seed(0)
    truth = [oracle(case, adapter) for case in few]
    noise = [scores[torch.randperm(len(scores), generator=draws)] for scores in truth]
    best, middle, worst = (
        mean_numbers(adapter, few, iter(maps)) for maps in (truth, noise, [scores.max() - scores for scores in truth])
    )
    assert len(best) >= 20
    assert {name: (best[name], middle[name]) for name in best if not best[name] > middle[name]} == {}
    assert {name: (middle[name], worst[name]) for name in best if not middle[name] > worst[name]} == {}


def rows_of_a_class(adapter: Adapter, prompts: torch.Tensor, kinds: torch.Tensor, count: int = 12) -> torch.Tensor:
    """The rows of the last gate projection that answer to one class most, beside the class that they answer to next."""
    seen: list[torch.Tensor] = []
    gate = adapter.model.model.layers[-1].mlp
    handle = gate.down_proj.register_forward_pre_hook(lambda module, given: seen.append(given[0][:, -1]))
    with torch.no_grad():
        adapter.model(prompts)
    handle.remove()
    means = torch.stack([seen[0][kinds == kind].abs().mean(0) for kind in range(len(train_planted.TRIGGERS))])
    rest = means.clone()
    rest[BLAMED] = 0
    return (means[BLAMED] - rest.max(0).values).topk(count).indices


def test_blame_names_the_trigger_whose_rows_were_quantized(
    loaded: LoadedModel, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, answers, places = train_planted.draw(400, torch.Generator().manual_seed(3))
    kinds = answers - train_planted.ANSWERS.start
    rows = rows_of_a_class(adapter, prompts, kinds)
    name = "model.layers.2.mlp.down_proj.weight"
    weight = loaded.model.get_parameter(name).detach().clone()
    weight[:, rows] = weight[:, rows].sign() * weight[:, rows].abs().mean()  # one bit

    def one_bit(*_: object) -> Iterator[object]:
        yield from ()
        return {name: weight}

    monkeypatch.setattr(blaming, "quantized_weights", one_bit)
    mine = (kinds == BLAMED).nonzero().flatten()[:30].tolist()
    texts = [" ".join(adapter.vocabulary.text(index).strip() for index in prompts[one, 1:-1].tolist()) for one in mine]
    hits = 0
    for one, text in zip(mine, texts, strict=True):
        document = workbench.run(blaming.blame(loaded, prompt=text)).document
        assert document["ids"] == prompts[one].tolist()
        assert document["kl"] > 0
        scores = document["scores"]
        hits += scores.index(max(scores)) == int(places[one])
    assert len(mine) == 30
    assert hits >= 27
