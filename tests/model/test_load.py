"""Sound models open, and the identity says which one it was."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from workbench.errors import WorkbenchError
from workbench.model import folders
from workbench.model.fingerprint import folder_digest, model_digest
from workbench.model.load import LoadedModel, load


def logits_of(loaded: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(input_ids=torch.tensor([[0, 5, 9, 200]]), use_cache=False).logits


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_loading_agrees_with_transformers(kind: str, request: pytest.FixtureRequest) -> None:
    loaded: LoadedModel = request.getfixturevalue(f"tiny_{kind}")
    theirs = AutoModelForCausalLM.from_pretrained(loaded.folder).eval()
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor([[0, 5, 9, 200]])).logits
    assert torch.equal(logits_of(loaded), expected)
    assert loaded.context == 128
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.model.config._attn_implementation == "sdpa"


def test_identity_names_the_model_and_holds_no_path(tiny_llama: LoadedModel) -> None:
    facts = tiny_llama.identity.to_json()
    assert facts["id"] == "tiny-llama"
    assert facts["architecture"] == "LlamaForCausalLM"
    assert facts["dtype"] == "float32"
    assert facts["parameters"] == sum(p.numel() for p in tiny_llama.model.parameters())
    assert str(tiny_llama.folder) not in json.dumps(facts)
    assert len(tiny_llama.identity.digest) == 16


def test_weights_hash_follows_the_written_rule(tiny_llama: LoadedModel) -> None:
    """Recomputed here from the tensors themselves, without the file's layout."""
    rows = [
        [name, "F32", list(tensor.shape), hashlib.sha256(tensor.numpy().tobytes()).hexdigest()]
        for name, tensor in sorted(load_file(tiny_llama.folder / "model.safetensors").items())
    ]
    expected = hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
    assert tiny_llama.identity.weights_sha256 == expected


@pytest.fixture
def copy(tiny_llama_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama_folder, tmp_path / "copy"))


def test_identity_does_not_depend_on_files_but_on_what_they_hold(copy: Path, tiny_llama: LoadedModel) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(dict(reversed(config.items())), indent=7))
    tensors = load_file(copy / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-a.safetensors": names[::2], "model-b.safetensors": names[1::2]}
    for shard, part in shards.items():
        save_file({name: tensors[name] for name in part}, copy / shard)
    (copy / "model.safetensors").unlink()
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    sharded = load(str(copy))
    assert sharded.identity.digest == tiny_llama.identity.digest
    assert torch.equal(logits_of(sharded), logits_of(tiny_llama))


def test_a_tied_head_that_is_stored_as_well_is_hashed_once(copy: Path, tiny_llama: LoadedModel) -> None:
    tensors = load_file(copy / "model.safetensors")
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, copy / "model.safetensors")
    assert load(str(copy)).identity.weights_sha256 == tiny_llama.identity.weights_sha256


def test_one_changed_bit_changes_digest_and_hash(copy: Path, tiny_llama: LoadedModel) -> None:
    former = folder_digest(copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"][0] = tensors["model.norm.weight"][0].nextafter(torch.tensor(2.0))
    save_file(tensors, copy / "model.safetensors")
    assert folder_digest(copy) != former
    assert load(str(copy)).identity.weights_sha256 != tiny_llama.identity.weights_sha256


def test_checkpoints_of_older_layouts_open(tiny_gpt2: LoadedModel, tmp_path: Path) -> None:
    """As the hub's first GPT-2: names without the prefix, and masks stored beside the weights."""
    folder = Path(shutil.copytree(tiny_gpt2.folder, tmp_path / "old"))
    tensors = load_file(folder / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 128, 128, dtype=torch.uint8) for layer in range(2)}
    save_file(old | masks | {"h.0.attn.rotary_emb.inv_freq": torch.ones(4)}, folder / "model.safetensors")
    assert torch.equal(logits_of(load(str(folder))), logits_of(tiny_gpt2))
    save_file(old | {"h.0.attn.c_attn.weight": torch.ones(64, 191)}, folder / "model.safetensors")
    with pytest.raises(WorkbenchError, match=r"'h.0.attn.c_attn.weight' of shape \[64, 191\]"):
        load(str(folder))


def test_half_precision_weights_are_computed_with_in_float32(copy: Path) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in load_file(copy / "model.safetensors").items()}
    save_file(halves, copy / "model.safetensors")
    loaded = load(str(copy))
    assert loaded.identity.dtype == "bfloat16"
    name = "model.layers.0.mlp.down_proj.weight"
    assert torch.equal(loaded.model.get_parameter(name), halves[name].float())


def test_a_file_that_changes_later_does_not_change_the_model(copy: Path, tiny_llama: LoadedModel) -> None:
    loaded = load(str(copy))
    with (copy / "model.safetensors").open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * 100_000)
    assert torch.equal(logits_of(loaded), logits_of(tiny_llama))


def test_demo_is_the_embedded_folder(copy: Path, monkeypatch: pytest.MonkeyPatch, tiny_llama: LoadedModel) -> None:
    monkeypatch.setattr(folders, "demo_folder", lambda: copy)
    demo = load("demo")
    assert demo.identity.id == "demo"
    assert demo.folder == copy
    assert demo.identity.digest == tiny_llama.identity.digest
    assert load(str(copy)).identity.id == "demo", "the embedded folder by its path"
    assert model_digest("demo") == folder_digest(copy)


def test_another_folder_called_demo_is_not_taken_for_the_embedded_model(copy: Path) -> None:
    found = folders.find_folder(str(copy.rename(copy.with_name("demo"))))
    assert found is not None
    assert found.id == "./demo"


def test_local_models_are_found_by_name(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_MODELS", str(copy.parent))
    loaded = load("copy")
    assert (loaded.identity.id, loaded.folder) == ("copy", copy)


@pytest.mark.parametrize(
    "name", ["", " ", "nothing", "owner/name", "no/such/folder", "x" * 5000, "a\0b", "~nobody-here/x", "../" * 99 + "q"]
)
def test_what_is_not_there_is_refused_with_choices(name: str) -> None:
    with pytest.raises(WorkbenchError, match="'demo'") as refusal:
        load(name)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("name", ["", "a/b/c", "https://example.org/x", "../up", "a b"])
def test_only_hub_ids_are_asked_for(name: str) -> None:
    with pytest.raises(WorkbenchError, match="neither a folder nor a hub id"):
        load(name, allow_download=True)


def test_a_download_goes_through_the_same_checks(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def snapshot_download(name: str, **keywords: Any) -> str:
        asked.update(keywords, name=name)
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    loaded = load("owner/name", allow_download=True)
    assert (loaded.identity.id, loaded.identity.revision) == ("owner/name", "copy")
    assert asked["name"] == "owner/name"
    assert not any(
        pattern.endswith((".bin", ".py", "*")) for pattern in asked["allow_patterns"] if pattern != "tokenizer*"
    )
    (copy / "config.json").write_text(json.dumps({"model_type": "llama", "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(WorkbenchError, match="auto_map"):
        load("owner/name", allow_download=True)


def test_a_download_that_fails_is_one_sentence() -> None:
    with pytest.raises(WorkbenchError, match="could not be downloaded"):  # the tests run with HF_HUB_OFFLINE=1
        load("owner/name", allow_download=True)


def test_loading_never_opens_a_connection(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without HF_HUB_OFFLINE, and although the tokenizer's code knows questions that it would ask the hub."""

    def connect(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert load(str(copy)).context == 128
    with pytest.raises(WorkbenchError, match="only when downloads are allowed"):
        load("owner/name")


def test_loading_prints_nothing(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(str(copy))
    assert capfd.readouterr() == ("", "")


def test_keys_of_jobs_need_no_torch(copy: Path) -> None:
    code = (
        "import sys; from workbench.model.fingerprint import model_digest; print(model_digest(sys.argv[1])); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == folder_digest(copy)


def test_digest_of_a_hub_model_that_is_not_here(tmp_path: Path) -> None:
    assert model_digest("owner/name") == model_digest("owner/name") != model_digest("owner/other")
    with pytest.raises(WorkbenchError, match="neither a folder nor a hub id"):
        model_digest("no such/model at all")
    with pytest.raises(WorkbenchError, match=r"no config\.json"):
        model_digest(str(tmp_path))


@pytest.mark.parametrize("name", ["stories260K", "classic-gpt2"])
def test_real_models_open(shared_models: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_MODELS", str(shared_models))
    loaded = load(name)
    expected = {"stories260K": (260_032, 512, "float32"), "classic-gpt2": (1_088_256, 256, "bfloat16")}
    assert (loaded.identity.parameters, loaded.context, loaded.identity.dtype) == expected[name]


@pytest.mark.parametrize(
    ("family", "settings", "context"),
    [
        ("bloom", {"hidden_size": 32, "n_layer": 1, "n_head": 2}, 2048),
        ("mpt", {"d_model": 32, "n_layers": 1, "n_heads": 2, "max_seq_len": 77}, 77),
    ],
)
def test_context_of_models_that_name_it_otherwise(
    family: str, settings: dict[str, Any], context: int, make_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    assert load(str(make_model_folder(tmp_path / family, family, **settings))).context == context
