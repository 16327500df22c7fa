"""Keeping the top weights of each metric: all kept is the full model, none kept the quantized one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.registry import salience
from workbench.results import Result
from workbench.studies.scores import ask_for_weights
from workbench.vocabulary import unknown_columns

Finish = Callable[..., Result]
SMALL = {"tokens": 256, "window": 64}
SCHEME = {"quantizer": "rtn", "bits": 2, "group_size": 32}


def test_all_weights_kept_is_the_full_model(tiny_llama: LoadedModel, texts: dict[str, str], finish: Finish) -> None:
    given = {"scheme": SCHEME, "metrics": ["magnitude", "wanda"], **SMALL, **texts}
    found = finish(studies.detach(tiny_llama, shares=[0.5, 0.9999999], **given))
    frame = found.tables["detach"]
    assert unknown_columns(frame.columns) == []
    assert list(dict.fromkeys(frame["metric"])) == ["magnitude", "wanda", "random"]
    everything = frame[frame["share"] > 0.9]
    assert everything[["rise", "rise_heldout"]].abs().to_numpy().max() < 1e-6
    assert abs(found.document["all"]["rise"]) > 1e-3
    assert found.document["points"][0]["added_bits"] == pytest.approx(24.0)


def test_random_weights_are_those_of_the_seed(tiny_llama: LoadedModel, texts: dict[str, str]) -> None:
    def rise(seed: int) -> float:
        given = {"scheme": SCHEME, "metrics": ["magnitude"], "shares": [0.2], **SMALL, **texts}
        return workbench.run(studies.detach(tiny_llama, seed=seed, **given)).document["points"][-1]["rise"]

    assert rise(1) == rise(1)
    assert rise(1) != rise(2)


def test_every_metric_for_single_weights_is_asked(tiny_gpt2: LoadedModel, texts: dict[str, str]) -> None:
    found = workbench.run(studies.detach(tiny_gpt2, scheme=SCHEME, shares=[0.01], **SMALL, **texts)).document
    names = {point["metric"] for point in found["points"]}
    assert names == {one.method.name for one in ask_for_weights(None)} | {"random"}
    assert {"pqi", "fisher", "second_order", "obs", "magnitude", "lift"} <= names
    assert names.isdisjoint({"activation", "utilized_rank", "salun"})
    assert names - {"random"} <= set(salience.names())


def test_refusals(tiny_llama: LoadedModel, texts: dict[str, str]) -> None:
    with pytest.raises(WorkbenchError, match=r"metric that scores single weights.*activation"):
        workbench.run(studies.detach(tiny_llama, metrics=["activation"], **SMALL, **texts))
    with pytest.raises(WorkbenchError, match="above 0 and below 1"):
        workbench.run(studies.detach(tiny_llama, shares=[5.0], **SMALL, **texts))
