"""`attribute` on folders of encoders, full and quantized, from the spec to the document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from encoder_models import LABELS, OTHER, TEXT, write_encoder

from workbench.errors import WorkbenchError
from workbench.progress import run
from workbench.results import Result
from workbench.studies import Context, start


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    bare = write_encoder(root / "bare", "distilbert", bare=True)
    return {"classifier": write_encoder(root / "classifier", "bert"), "bare": bare}


def answer(folder: Path, kind: str = "attribute", context: Context | None = None, **asked: Any) -> Result:
    return run(start(kind, {"model": str(folder), **asked}, context or Context()))


def test_a_class_is_explained(folders: dict[str, Path]) -> None:
    found = answer(folders["classifier"], prompt=TEXT, target="POSITIVE", granularity="word").document
    assert found["tokens"] == ["[CLS]", "w17", "w33", "pie", "ce", "w8", "w64", "w12", "[SEP]"]
    assert found["target"]["label"] == "logit of 'POSITIVE'"
    assert found["baseline"] == "mask"
    assert found["relative_gap"] <= 1e-3
    assert {one["token"] for one in found["top"]} == set(LABELS.values())
    assert sum(one["score"] for one in found["units"]) == pytest.approx(sum(found["scores"]))
    assert [one["text"] for one in found["units"]][1:-1] == TEXT.split()


def test_a_pair_has_scores_in_both_texts(folders: dict[str, Path]) -> None:
    found = answer(folders["classifier"], prompt=TEXT, second=OTHER, method="occlusion").document
    assert len(found["tokens"]) == 13
    assert all(found["scores"][place] for place in (1, 10))
    assert found["second"] == OTHER
    assert "both have scores" in " ".join(found["notes"])


def test_closeness_is_explained(folders: dict[str, Path]) -> None:
    found = answer(folders["bare"], prompt=TEXT, second=OTHER, target="cls").document
    assert found["target"]["kind"] == "cosine"
    assert -1 <= found["value"] <= 1
    assert found["top"] == [{"token": OTHER, "id": 0, "logit": pytest.approx(found["value"]), "logprob": None}]


def test_a_quantized_encoder_is_explained_and_differs(folders: dict[str, Path]) -> None:
    scheme = {"quantizer": "rtn", "bits": 3, "group_size": 32}
    context = Context()
    for folder, asked in ((folders["classifier"], {"target": "POSITIVE"}), (folders["bare"], {"second": OTHER})):
        full, low = (
            answer(folder, "attribute", context, prompt=TEXT, scheme=one, **asked).document for one in (None, scheme)
        )
        assert full["target"] == low["target"]
        assert abs(full["value"] - low["value"]) > 1e-4
        assert full["scores"] != low["scores"]
        assert low["relative_gap"] <= 1e-3


def test_a_text_is_as_close_to_itself_in_a_quantized_encoder(folders: dict[str, Path]) -> None:
    """The fixed text is read by the quantized model too."""
    scheme = {"quantizer": "rtn", "bits": 2, "group_size": 32}
    found = answer(folders["bare"], prompt=TEXT, second=TEXT, scheme=scheme, method="gradient").document
    assert found["value"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("which", "asked", "sentence"),
    [
        ("bare", {}, "is a bare encoder .* give a second text"),
        (
            "bare",
            {"second": OTHER, "target": "max"},
            "bare encoder 'max'; choose one of: mean, cls",
        ),
        ("bare", {"second": OTHER, "contrast": OTHER}, "the second text and the contrast are the same"),
        ("classifier", {"chat": True}, "chat is for language models"),
        ("classifier", {"explain": [2, 3]}, "explain is for language models"),
        ("classifier", {"method": "norm_attention"}, "norm_attention follows values through decoders"),
        ("classifier", {"method": "value_zeroing"}, "value_zeroing follows values through decoders"),
        ("classifier", {"scheme": {"quantizer": "gptq", "bits": 4, "group_size": 32}}, "choose one that reads none"),
    ],
)
def test_what_an_encoder_cannot_be_asked(
    folders: dict[str, Path], which: str, asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        answer(folders[which], prompt=TEXT, **asked)


def test_maps_of_an_encoder_are_tried_and_compared_over_widths(folders: dict[str, Path]) -> None:
    context, folder = Context(), folders["classifier"]
    asked = {"prompt": TEXT, "methods": ["occlusion", "attention_rollout"], "target": "POSITIVE", "checks": False}
    trial = answer(folder, "compare_attribution", context, **asked).document
    assert trial["removal"]["replaced_by"] == "mask"
    assert {one["name"] for one in trial["methods"]} == {"occlusion", "attention_rollout"}
    scheme = {"quantizer": "rtn", "bits": 16, "group_size": 32}
    same = answer(folder, "drift", context, prompts=[TEXT], method="occlusion", scheme=scheme).document
    assert same["prompts"][0]["spearman"] == pytest.approx(1)


def test_a_language_model_reads_no_second_text(tiny_llama_folder: Path) -> None:
    with pytest.raises(WorkbenchError, match="no encoder and reads one text"):
        answer(tiny_llama_folder, prompt="ab", second="cd")


def test_other_studies_refuse_an_encoder_also_when_it_is_held(folders: dict[str, Path]) -> None:
    context = Context()
    answer(folders["classifier"], context=context, prompt=TEXT, method="gradient")
    with pytest.raises(WorkbenchError, match=r"is an encoder .* Input attribution"):
        answer(folders["classifier"], "inspect", context)
