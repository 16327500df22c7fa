"""Folders that are unsafe, damaged or of the wrong kind are refused with one sentence that names file and value."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.errors import WorkbenchError
from workbench.model import build, tensor_files
from workbench.model.load import load

WEIGHTS = "model.safetensors"
DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def folder(tiny_llama_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama_folder, tmp_path / "model"))


def refused(folder: Path) -> str:
    with pytest.raises(WorkbenchError) as refusal:
        load(str(folder))
    sentence = str(refusal.value)
    assert "\n" not in sentence
    assert len(sentence) < 400
    assert str(folder.parent) not in sentence, "a path of this machine is nobody's business"
    return sentence


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def write_header(folder: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    held = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(held) if length is None else length) + held + data)


# the folder and its configuration


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    with pytest.raises(WorkbenchError, match="is not there"):
        load(str(folder / "config.json"))


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "no config.json" in refused(folder)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "not an object"),
        (b" " * (2**20 + 1), "larger than"),
        (b"{}", "model_type None"),
    ],
)
def test_a_config_that_is_none(folder: Path, held: bytes, said: str) -> None:
    (folder / "config.json").write_bytes(held)
    sentence = refused(folder)
    assert said in sentence
    assert "config.json" in sentence


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}},
        {"nested": [{"auto_map": {"AutoConfig": "evil.C"}}]},
        {"custom_pipelines": {"text": {"impl": "evil.P"}}},
        {"trust_remote_code": True},
    ],
)
def test_remote_code_in_the_config(folder: Path, changes: dict[str, Any]) -> None:
    change_config(folder, **changes)
    assert "asks for code of the repository to be run" in refused(folder)


def test_remote_code_in_the_tokenizer(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    sentence = refused(folder)
    assert "tokenizer_config.json" in sentence
    assert "auto_map" in sentence


@pytest.mark.parametrize(
    "key",
    [
        "_attn_implementation_internal",
        "attn_implementation",
        "_experts_implementation_internal",
        "experts_implementation",
    ],
)
def test_a_kernel_named_by_the_config_is_not_fetched(folder: Path, key: str) -> None:
    """CVE-2026-4372: the key is dropped, and the model opens with an implementation of our choice."""
    change_config(folder, **{key: "evil/kernel"})
    config = load(str(folder)).model.config
    assert config._attn_implementation == "sdpa"
    assert "evil" not in str(config.to_dict())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transformers_weights", "../other.bin"),
        ("fusion_config", {"patch_embeddings": True}),
        ("adapter_config", {"base_model_name_or_path": "evil/model"}),
    ],
)
def test_files_and_fusions_named_by_the_config_are_not_followed(folder: Path, key: str, value: Any) -> None:
    change_config(folder, **{key: value})
    assert load(str(folder)).identity.architecture == "LlamaForCausalLM"


def test_an_adapter_in_the_folder_is_not_followed(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "evil/model"}))
    assert load(str(folder)).identity.id == "model"


def test_a_distributed_checkpoint_in_the_folder_is_not_unpickled(folder: Path) -> None:
    (folder / ".metadata").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert load(str(folder)).identity.id == "model"


def test_weights_that_are_quantized_already(folder: Path) -> None:
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "already quantized" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "no_such_thing"}, "'no_such_thing'"),
        ({"model_type": 7}, "model_type 7"),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "not a decoder-only language model"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "'LlamaForSequenceClassification'"),
        ({"architectures": 3}, "architecture 3"),
        ({"architectures": [["LlamaForCausalLM"]]}, "architecture ['LlamaForCausalLM']"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}, "for text"),
        ({"num_hidden_layers": 10**9}, "1000000000 layers"),
        ({"num_hidden_layers": "two"}, "cannot be built"),
        ({"hidden_size": "wide"}, "cannot be built"),
        ({"num_attention_heads": 0}, "cannot be built"),
        ({"hidden_act": "no_such_activation"}, "cannot be built"),
    ],
)
def test_a_config_of_the_wrong_kind(folder: Path, changes: dict[str, Any], said: str) -> None:
    change_config(folder, **changes)
    assert said in refused(folder)


def test_a_model_that_looks_ahead_is_found_out(make_model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """BERT's head for language modelling is among the causal ones, yet attends both ways unless told otherwise."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    folder = make_model_folder(tmp_path / "bert", "bert", **sizes)
    assert "is not causal" in refused(folder)
    change_config(folder, is_decoder=True)
    assert load(str(folder)).identity.architecture == "BertLMHeadModel"


# weights


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "model.ckpt"])
def test_pickled_weights_only(folder: Path, name: str) -> None:
    (folder / WEIGHTS).rename(folder / name)
    sentence = refused(folder)
    assert name in sentence
    assert "only safetensors are read" in sentence


def test_pickles_beside_safetensors_are_not_looked_at(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert load(str(folder)).identity.id == "model"


def test_no_weights_at_all(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "has no weights" in refused(folder)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"weight_map": {DOWN: "model-2.safetensors"}}, "'model-2.safetensors', which is missing"),
        ({"weight_map": {DOWN: "../other.safetensors"}}, "not a plain file name"),
        ({"weight_map": {DOWN: "/dev/zero"}}, "not a plain file name"),
        ({"weight_map": {DOWN: "pytorch_model.bin"}}, "not a plain file name"),
        ({"weight_map": {DOWN: ["a"]}}, "not a plain file name"),
        ({"weight_map": {"no.such.weight": "shard.safetensors"}}, "lacks the tensor 'no.such.weight'"),
        ({"weight_map": {}}, "no weight_map"),
        ([], "not an object"),
    ],
)
def test_an_index_that_promises_too_much(folder: Path, index: Any, said: str) -> None:
    (folder / WEIGHTS).rename(folder / "shard.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert said in refused(folder)


ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("header", "data", "length", "said"),
    [
        (b"", b"", None, "not valid JSON"),
        (b"{}", b"", 10**18, "truncated"),
        (b"{}" + b" " * (2**24), b"", None, "header of"),
        (b"not json", b"", None, "not valid JSON"),
        (b"[]", b"", None, "not an object"),
        ({"a": 5}, b"", None, "malformed"),
        ({"a": ENTRY | {"dtype": "F33"}}, bytes(16), None, "of type 'F33'"),
        ({"a": ENTRY | {"dtype": ["F32"]}}, bytes(16), None, "of type"),
        ({"a": ENTRY | {"shape": [2, -2]}}, bytes(16), None, "malformed"),
        ({"a": ENTRY | {"shape": [True, 4]}}, bytes(16), None, "malformed"),
        ({"a": ENTRY | {"shape": [2] * 99}}, bytes(16), None, "malformed"),
        ({"a": ENTRY | {"shape": [2, 10**30]}}, bytes(16), None, "malformed"),
        ({"a": ENTRY | {"data_offsets": [0, 10**30]}}, bytes(16), None, "malformed"),
        ({"a": ENTRY | {"data_offsets": [8, 24]}}, bytes(24), None, "starts at byte"),
        ({"a": ENTRY, "b": ENTRY}, bytes(16), None, "starts at byte"),
        ({"a": ENTRY}, bytes(12), None, "truncated"),
        ({"a": ENTRY}, bytes(20), None, "truncated or malformed"),
    ],
)
def test_a_header_that_does_not_fit_its_file(
    folder: Path, header: Any, data: bytes, length: int | None, said: str
) -> None:
    write_header(folder, header, data, length)
    sentence = refused(folder)
    assert said in sentence
    assert WEIGHTS in sentence


def test_a_header_of_too_many_tensors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_files, "MAX_TENSORS", 3)
    assert "tensors; at most 3 are read" in refused(folder)


@pytest.mark.parametrize("kept", [0, 5, 8, 200, 50_000])
def test_a_truncated_file(folder: Path, kept: int) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:kept])
    assert "truncated" in refused(folder)


def test_shapes_that_differ_from_the_config(folder: Path) -> None:
    change_config(folder, intermediate_size=173)
    sentence = refused(folder)
    assert "mlp" in sentence
    assert "172" in sentence
    assert "173" in sentence


def test_shapes_are_compared_before_memory_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_read_weights", lambda _: pytest.fail("weights were read"))
    change_config(folder, vocab_size=10**12)
    assert "1000000000000" in refused(folder)


def test_a_missing_tensor(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.pop(DOWN))
    assert f"{DOWN!r} is missing" in refused(folder)


def test_a_missing_tensor_that_another_one_hides(folder: Path) -> None:
    def swap(tensors: dict[str, torch.Tensor]) -> None:
        tensors["something.else"] = tensors.pop(DOWN)

    change_weights(folder, swap)
    assert f"lacks 1 tensors of its configuration: {DOWN!r}" in refused(folder)


def test_layers_that_the_config_leaves_out(folder: Path) -> None:
    change_config(folder, num_hidden_layers=1)
    assert "holds layers that config.json leaves out: 'model.layers.1." in refused(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    change_weights(folder, lambda tensors: tensors[DOWN][3].fill_(value))
    sentence = refused(folder)
    assert f"{DOWN!r} with the value {value}" in sentence


def test_weights_that_overflow(folder: Path) -> None:
    change_weights(folder, lambda tensors: [one.fill_(3e38) for name, one in tensors.items() if "proj" in name])
    assert "logits that are not finite" in refused(folder)


def test_more_weights_than_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert "GiB of memory" in refused(folder)


# the tokenizer


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    sentence = refused(folder)
    assert "has no tokenizer" in sentence
    assert "tokenizer.json" in sentence


def test_a_tokenizer_that_is_damaged(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": 3}')
    assert "tokenizer of model 'model' cannot be read" in refused(folder)


def test_a_tokenizer_with_more_tokens_than_the_model(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["extra"] = 4000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "ids up to 4000; the model embeds 259 tokens" in refused(folder)
