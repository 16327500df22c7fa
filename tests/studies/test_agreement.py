"""Where metrics agree: against scipy, and pairs whose agreement is an identity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scipy.stats import spearmanr

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.results import Result
from workbench.vocabulary import unknown_columns

Finish = Callable[..., Result]
SMALL = {"tokens": 256, "window": 64}
NAMES = ["magnitude", "wanda", "obd", "snip", "taylor", "synflow"]


def pair(found: Result, one: str, other: str, matrix: str | None = None) -> dict[str, float]:
    frame = found.tables["agreement"]
    within = frame["matrix"].isna() if matrix is None else frame["matrix"] == matrix
    return frame[within & (frame["metric"] == one) & (frame["other"] == other)].to_dict("records")[0]


def test_pairs_of_equal_order_agree_and_the_matrix_is_symmetric(tiny_llama, texts, finish) -> None:
    found = finish(studies.agreement(tiny_llama, metrics=NAMES, calibration=texts["calibration"], **SMALL))
    matrices = quantizable_matrices(tiny_llama.model)
    assert unknown_columns(found.tables["agreement"].columns) == []
    assert unknown_columns(found.tables["channels"].columns) == []
    assert len(found.tables["agreement"]) == len(NAMES) ** 2 * (len(matrices) + 1)
    for one, other in (("wanda", "obd"), ("snip", "taylor")):
        # a square keeps the order, up to what float32 rounds to a tie
        assert pair(found, one, other)["spearman"] > 0.999
        assert pair(found, one, other)["overlap"] > 0.98
    for one in NAMES:
        assert pair(found, one, one)["overlap"] == 1
        for other in NAMES:
            assert pair(found, one, other)["spearman"] == pytest.approx(pair(found, other, one)["spearman"])
    assert [row["metric"] for row in found.document["pairs"][:: len(NAMES)]] == NAMES


def test_a_pair_is_what_scipy_says(tiny_gpt2, texts) -> None:
    asked = {"calibration": texts["calibration"], **SMALL}
    found = workbench.run(studies.agreement(tiny_gpt2, metrics=["magnitude", "synflow"], **asked))
    kept: dict = {}
    workbench.run(studies.salience(tiny_gpt2, metric="synflow", keep=kept, **asked))
    matrix = quantizable_matrices(tiny_gpt2.model)[0]
    weight = read_weight(tiny_gpt2.model, matrix).abs()
    scores = kept[matrix.name].abs()
    row = pair(found, "magnitude", "synflow", matrix.name)
    assert row["spearman"] == pytest.approx(spearmanr(weight.flatten(), scores.flatten()).statistic, abs=1e-6)
    count = round(0.01 * weight.numel())
    tops = [set(one.flatten().topk(count).indices.tolist()) for one in (weight, scores)]
    assert row["overlap"] == pytest.approx(len(tops[0] & tops[1]) / count, abs=0.02)
    channels = found.tables["channels"]
    mine = channels[(channels["metric"] == "magnitude") & (channels["matrix"] == matrix.name)]
    assert mine["score"].tolist() == pytest.approx(weight.double().sum(0).tolist())


def test_refusals(tiny_llama: LoadedModel, texts: dict[str, str]) -> None:
    calibration = texts["calibration"]
    for sentence, asked in (
        ("agreement needs two or more", {"metrics": ["wanda"]}),
        ("metric that scores single weights", {"metrics": ["wanda", "activation"]}),
        ("above 0 and below 1", {"top": 1.0}),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            workbench.run(studies.agreement(tiny_llama, calibration=calibration, **SMALL, **asked))
