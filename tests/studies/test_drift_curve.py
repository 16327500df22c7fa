"""Drift against width: the same numbers as the study `drift` gives one choice at a time, the full model's maps once."""

from __future__ import annotations

import pytest

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import load
from workbench.results import dumps
from workbench.vocabulary import unknown_columns

PROMPTS = ["the cat sat", "a dog ran off"]
MEASURES = ("spearman", "kendall", "top_k_overlap", "aiou", "l1", "sign_flips", "noise_floor", "kl", "same_answer")


def scheme(bits: int, quantizer: str = "rtn") -> dict[str, object]:
    return {"quantizer": quantizer, "bits": bits, "group_size": 32, "symmetric": False, "options": {}}


def test_every_point_is_what_the_study_of_one_choice_measures(tiny_llama, finish) -> None:
    asked = {"prompts": PROMPTS, "target": "logprob:", "top_k": 2}
    own = {"smoothgrad": {"samples": 4, "seed": 3}}
    methods = ["gradient", "smoothgrad"]
    curve = finish(
        studies.drift_curve(tiny_llama, **asked, methods=methods, schemes=[scheme(2), scheme(8)], options=own)
    )
    assert [(one["method"], one["bits"]) for one in curve.document["points"]] == [
        ("gradient", 2), ("smoothgrad", 2), ("gradient", 8), ("smoothgrad", 8),
    ]  # fmt: skip
    for point in curve.document["points"]:
        options = own.get(point["method"])
        alone = finish(
            studies.drift(tiny_llama, **asked, method=point["method"], options=options, scheme=scheme(point["bits"]))
        ).document["mean"]
        for name in MEASURES:
            assert point[name] == pytest.approx(alone[name], rel=1e-6, abs=1e-9), (point["method"], point["bits"], name)
    floors = curve.document["floors"]
    assert floors["gradient"] == {"spearman": 1, "kendall": 1, "top_k_overlap": 1, "aiou": 1, "l1": 0}
    assert floors["smoothgrad"]["spearman"] < 1
    assert floors["smoothgrad"]["l1"] > 0
    assert "NaN" not in dumps(curve.document)
    assert len(curve.tables["prompts"]) == 8
    assert not [name for table in curve.tables.values() for name in unknown_columns(table.columns)]


def test_untouched_weights_do_not_drift(tiny_llama, finish) -> None:
    points = finish(
        studies.drift_curve(tiny_llama, prompts=PROMPTS, methods=["gradient"], schemes=[scheme(16)])
    ).document["points"]
    assert [(one["l1"], one["kl"], one["same_answer"], one["top_k_overlap"]) for one in points] == [(0, 0, 1, 1)]


@pytest.mark.slow
def test_the_curve_falls_with_the_bits_on_a_trained_model() -> None:
    stories = [
        "Lily had a red ball. She went to the park to play with her red",
        "The sun was hot. Ben wanted to drink some cold",
        "Anna was sad because she lost her",
    ]
    asked = {"prompts": stories, "methods": ["gradient", "linearised"], "schemes": [scheme(b) for b in (2, 4, 8)]}
    frame = workbench.run(studies.drift_curve(load("demo"), **asked)).tables["curve"]
    for _, part in frame.groupby("method"):
        moved = part["l1"].tolist()
        assert moved[0] > moved[1] > moved[2] > 0
    assert frame["kl"].tolist()[0] > frame["kl"].tolist()[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompts": []},
        {"methods": []},
        {"schemes": []},
        {"top_k": 0},
        {"methods": ["gradient", "gradient"]},
        {"methods": ["nope"]},
        {"schemes": [scheme(5)]},
        {"prompts": ["a"] * 5000},
        {"options": {"gradient": {"nope": 1}}},
    ],
)
def test_it_refuses_in_a_sentence(wrong: dict[str, object], tiny_llama, finish) -> None:
    asked = {"prompts": PROMPTS, "methods": ["gradient"], "schemes": [scheme(3)]}
    with pytest.raises(WorkbenchError):
        finish(studies.drift_curve(tiny_llama, **(asked | wrong)))
