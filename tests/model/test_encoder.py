"""Opening encoders: which kind a folder holds, what is refused, which matrices there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_models import FAMILIES, LABELS, build, pieces, write_encoder
from safetensors.torch import load_file, save_file

from workbench.errors import WorkbenchError
from workbench.model.encoder import LoadedEncoder, load_any, load_encoder
from workbench.model.load import load
from workbench.model.matrices import quantizable_matrices, skipped_parameters
from workbench.model.overlay import overlay


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def edit(folder: Path, **changes: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def test_a_classifier_opens_with_its_classes(family: str, tmp_path: Path) -> None:
    loaded = load_encoder(str(write_encoder(tmp_path / "tiny", family)))
    assert loaded.labels == tuple(LABELS.values())
    assert loaded.exclusive
    assert loaded.context == (62 if family == "roberta" else 64)
    ids = torch.tensor([[2, 9, 10, 3]])
    torch.testing.assert_close(loaded.model(input_ids=ids).logits, build(family)(input_ids=ids).logits)
    longest = torch.full((1, loaded.context), 9)
    loaded.model(input_ids=longest)
    with pytest.raises((IndexError, RuntimeError)):
        loaded.model(input_ids=torch.full((1, loaded.context + 1), 9))


def test_a_bare_encoder_needs_no_pooling_layer(family: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "tiny", family, bare=True)
    stored = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in stored.items() if "pooler" not in k}, folder / "model.safetensors", {"format": "pt"})
    loaded = load_any(str(folder))
    assert isinstance(loaded, LoadedEncoder)
    assert (loaded.labels, loaded.pooling) == ((), "mean")
    ids = torch.tensor([[2, 9, 10, 3]])
    own = build(family, bare=True)(input_ids=ids).last_hidden_state
    torch.testing.assert_close(loaded.model(input_ids=ids).last_hidden_state, own)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "include_prompt": True}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_the_folder_says_how_states_become_a_vector(document: dict[str, Any], expected: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "tiny", "bert", bare=True)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(document))
    assert load_encoder(str(folder)).pooling == expected


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "tiny", "bert", bare=True)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(WorkbenchError, match="asks for the pooling 'max_tokens'; mean and cls can be computed"):
        load_encoder(str(folder))


def test_classes_of_which_several_may_be_right_have_no_softmax(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "tiny", "bert")
    assert not load_encoder(str(edit(folder, problem_type="multi_label_classification"))).exclusive


def test_a_language_model_is_none(tiny_llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="'LlamaForCausalLM', which is no encoder"):
        load_encoder(str(tiny_llama_folder))
    assert not isinstance(load_any(str(tiny_llama_folder)), LoadedEncoder)


def test_an_encoder_is_no_language_model(family: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "tiny", family)
    sentence = r"model 'tiny' is an encoder \(.*ForSequenceClassification\), which predicts no next token; Input attr"
    with pytest.raises(WorkbenchError, match=sentence):
        load(str(folder))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"auto_map": {"AutoModel": "x.y"}}, "asks for code of the repository"),
        ({"quantization_config": {"bits": 4}}, "already quantized"),
        ({"architectures": ["BertForMaskedLM"]}, "'BertForMaskedLM', which is no encoder"),
        ({"architectures": ["BertForTokenClassification"]}, "'BertForTokenClassification', which is no encoder"),
        ({"num_hidden_layers": 3}, "lacks|asks for"),
        ({"is_decoder": True}, "does not depend on later ones"),
    ],
)
def test_the_refusals_of_language_models_hold(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        load_encoder(str(edit(write_encoder(tmp_path / "tiny", "bert"), **changes)))


def test_the_matrices_are_those_of_the_blocks(family: str) -> None:
    model = build(family)
    matrices = quantizable_matrices(model)
    assert len(matrices) == 12
    assert {matrix.block for matrix in matrices} == {0, 1}
    skipped = {one.name: one.reason for one in skipped_parameters(model)}
    head = {"bert": "classifier.weight", "roberta": "classifier.out_proj.weight", "distilbert": "classifier.weight"}
    assert skipped[head[family]].startswith("head of an encoder")
    total = sum(one.parameters for one in (*matrices, *skipped_parameters(model)))
    assert total == sum(parameter.numel() for parameter in model.parameters())


def test_other_weights_can_be_laid_over() -> None:
    model, ids = build("bert"), torch.tensor([[2, 9, 10, 3]])
    before = model(input_ids=ids).logits
    first = quantizable_matrices(model)[0]
    with overlay(model, {first.name: torch.zeros(first.shape)}):
        assert (model(input_ids=ids).logits - before).abs().max() > 1e-3
    assert torch.equal(model(input_ids=ids).logits, before)


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "tiny", "bert")
    tokenizer = pieces()
    tokenizer.add_tokens([f"more{place}" for place in range(5)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(WorkbenchError, match="has ids up to 97; the model embeds 96 tokens"):
        load_encoder(str(folder))
