"""Error bars of maps: nothing moves with next to no noise, less with more bits, the same with the same seeds."""

from __future__ import annotations

import pytest
import torch

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.quantizers.arithmetic.stochastic import stochastic_rounding
from workbench.results import dumps
from workbench.vocabulary import unknown_columns

PROMPT = "the cat sat on a mat"
STORY = "Lily had a red ball. She went to the park to play with her red"


def of(document: dict, name: str) -> dict:
    return next(one for one in document["methods"] if one["name"] == name)


def test_numbers_are_those_of_maps_made_by_hand(tiny_llama: LoadedModel, finish) -> None:
    result = finish(
        studies.reliability(tiny_llama, prompt=PROMPT, methods=["gradient"], bits=3, group_size=32, draws=3)
    )
    row, maps = of(result.document, "gradient"), []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        weights = {
            one.name: stochastic_rounding(
                read_weight(tiny_llama.model, one), bits=3, group_size=32, generator=generator
            )
            for one in quantizable_matrices(tiny_llama.model)
        }
        with overlay(tiny_llama.model, weights):
            target = f"id:{result.document['target']['ids'][0]}"
            asked = studies.attribute(tiny_llama, prompt=PROMPT, method="gradient", target=target)
            maps.append(workbench.run(asked).document["scores"])
    drawn = torch.tensor(maps, dtype=torch.float64)
    assert row["mean"] == pytest.approx(drawn.mean(0).tolist(), rel=1e-6)
    assert row["sd"] == pytest.approx(drawn.std(0).tolist(), rel=1e-6)
    snr = (drawn.mean(0).abs() / drawn.std(0))[row["compared"]]
    assert row["snr_mean"] == pytest.approx(float(snr.mean()), rel=1e-6)
    assert row["unsteady"] == int((snr < 2).sum())
    assert row["scores"] != row["mean"]
    assert "NaN" not in dumps(result.document)
    assert not [name for table in result.tables.values() for name in unknown_columns(table.columns)]


def test_identical_seeds_give_identical_results_and_leave_the_model_alone(tiny_gpt2: LoadedModel) -> None:
    before = [parameter.clone() for parameter in tiny_gpt2.model.parameters()]
    first, again, other = (
        workbench.run(studies.reliability(tiny_gpt2, prompt=PROMPT, methods=["gradient"], draws=2, seed=seed)).document
        for seed in (5, 5, 6)
    )
    assert first == again
    assert first["kl"][1] == pytest.approx(other["kl"][0], abs=1e-12)  # the next draw has the next seed
    assert first["methods"] != other["methods"]
    assert all(torch.equal(one, other) for one, other in zip(before, tiny_gpt2.model.parameters(), strict=True))


def steadier_with_bits(loaded: LoadedModel, prompt: str, methods: list[str]) -> dict[int, dict]:
    """Documents by width, once it is known that all methods are the steadier the more bits there are."""
    found = {}
    for bits in (2, 4, 8, 16):
        asked = studies.reliability(loaded, prompt=prompt, methods=methods, bits=bits, group_size=32, draws=3)
        found[bits] = workbench.run(asked).document
    for name in methods:
        ratios = [of(document, name)["snr_mean"] for document in found.values()]
        assert ratios == sorted(ratios)
        assert ratios[-1] > 1e3
        assert of(found[16], name)["unsteady"] == 0
        assert of(found[16], name)["fragility"] < 0.01
    assert found[2]["kl_mean"] > found[4]["kl_mean"] > found[8]["kl_mean"] > found[16]["kl_mean"]
    return found


def test_the_noise_falls_with_bits_and_sixteen_have_next_to_none(tiny_llama: LoadedModel) -> None:
    steadier_with_bits(tiny_llama, "the cat", ["gradient", "linearised"])


@pytest.mark.slow
def test_so_it_does_on_a_trained_model() -> None:
    methods = ["gradient", "linearised", "occlusion", "integrated_gradients"]
    found = steadier_with_bits(load("demo"), STORY, methods)
    assert all(of(found[4], name)["rank_stability"] < 0.999 for name in methods)


def test_a_map_that_reads_no_weights_is_steady_and_blind(tiny_llama: LoadedModel) -> None:
    asked = studies.reliability(tiny_llama, prompt=PROMPT, methods=["position", "gradient"], draws=2)
    row = of(workbench.run(asked).document, "position")
    assert (row["snr_mean"], row["unsteady"]) == (None, 0)
    assert row["snr"] == [None] * len(row["mean"])
    assert row["rank_stability"] == pytest.approx(1)
    assert row["blindness"] == pytest.approx(1)


def test_refusals(tiny_llama: LoadedModel) -> None:
    for sentence, asked in (
        ("draws has value 1; it must lie between 2 and 32", {"draws": 1}),
        ("bits has value 5", {"bits": 5}),
        ("group size has value 7", {"group_size": 7}),
        ("attribution method", {"methods": ["nope"]}),
        ("the prompt is empty", {"prompt": ""}),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            workbench.run(studies.reliability(tiny_llama, **{"prompt": PROMPT, "methods": ["gradient"]} | asked))
