"""Checkpoints: opened by plain transformers in a fresh process, equal to what was measured, whole or not there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

import workbench.model.checkpoint.write as writing
from workbench.allocation.importing import import_plan
from workbench.allocation.plan import parse, to_document
from workbench.errors import WorkbenchError
from workbench.model.checkpoint import fresh, packed
from workbench.model.load import LoadedModel, load
from workbench.results import Result
from workbench.studies import checkpoint, inspection

Finish = Callable[..., Result]
study = sys.modules[checkpoint.__module__]
PACKED = "compressed-tensors"
RTN = {"quantizer": "rtn", "bits": 4, "group_size": 32, "symmetric": True}


@pytest.fixture(scope="session")
def wide_folder(make_model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose matrices have whole groups: hidden 64, MLP 128, and a head of its own."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": False}
    return make_model_folder(tmp_path_factory.mktemp("models") / "wide", "llama", **sizes, **more)


@pytest.fixture(scope="session")
def wide(wide_folder: Path) -> LoadedModel:
    return load(str(wide_folder))


def mixed_plan(loaded: LoadedModel, finish: Finish, symmetric: bool = True) -> dict[str, Any]:
    """Every width that there is, rows and groups, one matrix left alone."""
    given = {
        "default": {"bits": 4, "group_size": 32, "symmetric": symmetric},
        "model.layers.0.mlp.down_proj": {"bits": 8, "group_size": 128},
        "model.layers.0.mlp.up_proj": {"bits": 3, "group_size": -1},
        "model.layers.0.self_attn.q_proj": {"bits": 2},
        "model.layers.0.self_attn.v_proj": {"bits": 1},
        "model.layers.1.self_attn.o_proj": 16,
    }
    facts = finish(inspection(loaded)).document
    return to_document(import_plan(json.dumps(given).encode(), facts).plan)


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_mixed_widths_are_opened_by_plain_transformers_bit_for_bit(
    wide: LoadedModel, finish: Finish, tmp_path: Path
) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors (extra [export]) is not installed")
    plan = mixed_plan(wide, finish)
    found = finish(checkpoint(wide, out=str(tmp_path / "packed"), format=PACKED, plan=plan)).document
    dense = finish(checkpoint(wide, out=str(tmp_path / "dense"), plan=plan)).document
    assert found["max_logit_difference"] == 0.0
    assert dense["max_logit_difference"] == 0.0
    assert found["versions"]["transformers"]
    assert json.loads((tmp_path / "packed" / "config.json").read_text())["dtype"] == "float32"

    held = tensors_of(tmp_path / "packed")
    assert found["tensor_bytes"] == sum(one.nbytes for one in held.values())
    assert found["bytes"] == (tmp_path / "packed" / "model.safetensors").stat().st_size
    with (tmp_path / "packed" / "model.safetensors").open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
        names = json.loads(stream.read(header))
    assert found["bytes"] == found["tensor_bytes"] + 8 + header
    assert header - len(json.dumps(names, separators=(",", ":"))) < 8  # nothing but names, shapes and places, aligned

    written = parse((tmp_path / "packed" / "workbench-plan.json").read_bytes())
    numel = sum(one.numel for one in written.tensors.values())
    kept = [name for name in held if name.rpartition(".")[0] + ".weight" in written.tensors]
    assert written.budget.measured_file == pytest.approx(8 * sum(held[name].nbytes for name in kept) / numel)
    # the format's own shapes take 16 bytes a matrix, and that is all there is besides what was planned
    quantized = [one for one in written.tensors.values() if one.bits != 16]
    left = next(one for one in written.tensors.values() if one.bits == 16)
    planned = sum(one.storage_bits for one in quantized) / 8 + 4 * left.numel  # float32 as it came, planned as 16 bits
    assert 8 * (planned + 16 * len(quantized)) / numel == pytest.approx(written.budget.measured_file)
    assert written.provenance is not None
    assert written.provenance.exports[0]["max_logit_difference"] == 0.0


@pytest.mark.slow
def test_a_gpt2_is_written_dense_with_its_transposed_matrices(
    tiny_gpt2: LoadedModel, finish: Finish, tmp_path: Path
) -> None:
    scheme = {"quantizer": "rtn", "bits": 3, "group_size": 64, "symmetric": False}
    found = finish(checkpoint(tiny_gpt2, out=str(tmp_path / "out"), scheme=scheme))
    assert found.document["max_logit_difference"] == 0.0
    assert found.document["stored_bits"] == 3.5
    assert found.document["plan"] == "workbench-plan.json"
    again = load(str(tmp_path / "out"))  # and it is a model for the workbench too
    assert again.identity.architecture == "GPT2LMHeadModel"
    written = parse((tmp_path / "out" / "workbench-plan.json").read_bytes())
    assert written.budget.measured_file == 32.0
    assert set(found.tables["tensors"].columns) == {"name", "dtype", "bytes"}


def answer_without_a_process(monkeypatch: pytest.MonkeyPatch, difference: float = 0.0) -> None:
    def reload(folder: Path, loaded: LoadedModel, weights: Any):
        yield fresh.Progress(0, 1)
        return fresh.Reloaded(difference, {"torch": torch.__version__})

    monkeypatch.setattr(study, "reload", reload)


def test_other_parameters_keep_their_type_where_that_is_exact(
    make_model_folder: Callable[..., Path], finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_without_a_process(monkeypatch)
    folder = make_model_folder(
        tmp_path / "half", "opt", hidden_size=64, ffn_dim=128, num_hidden_layers=1, num_attention_heads=4,
        word_embed_proj_dim=64, max_position_embeddings=64,
    )  # fmt: skip
    held = {name: one.bfloat16() for name, one in tensors_of(folder).items()}
    safetensors.torch.save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load(str(folder))
    finish(checkpoint(loaded, out=str(tmp_path / "out"), format=PACKED, scheme=RTN))
    written = tensors_of(tmp_path / "out")
    others = {name: one for name, one in written.items() if name in held}
    assert others
    assert all(torch.equal(one, held[name]) for name, one in others.items())
    assert {one.dtype for one in others.values()} == {torch.bfloat16}
    place = "model.decoder.layers.0.fc1.weight"
    assert [str(written[f"{place}_{part}"].dtype) for part in ("packed", "scale", "shape")] == [
        "torch.int32",
        "torch.float16",
        "torch.int64",
    ]


def test_steps_and_codes_are_ours(wide: LoadedModel, finish: Finish, tmp_path: Path, monkeypatch: Any) -> None:
    """Read back by hand: q * s from words and steps is the very weight that the quantizer gave."""
    answer_without_a_process(monkeypatch)
    import lowbit

    finish(checkpoint(wide, out=str(tmp_path / "out"), format=PACKED, scheme={**RTN, "bits": 3}))
    held, place = tensors_of(tmp_path / "out"), "model.layers.0.mlp.gate_proj.weight"
    words = held[f"{place}_packed"].numpy().view("<u4")
    bits = (words[:, :, None] >> torch.arange(32).numpy().astype("uint32")) & 1
    codes = (bits.reshape(128, 64, 3) * [1, 2, 4]).sum(-1)
    values = (codes - 4).reshape(128, 2, 32) * held[f"{place}_scale"].double().numpy()[:, :, None]
    weight = wide.model.get_parameter(place).detach()
    ours = lowbit.dequantize(lowbit.quantize(weight, bits=3, group_size=32, symmetric=True))
    assert torch.equal(torch.from_numpy(values.reshape(128, 64)).float(), ours)
    assert held[f"{place}_shape"].tolist() == [128, 64]


def test_the_file_is_within_two_percent_of_its_tensors_on_a_model_of_some_size(
    make_model_folder: Callable[..., Path], finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_without_a_process(monkeypatch)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
    folder = make_model_folder(tmp_path / "model", "llama", num_key_value_heads=2, **sizes)
    found = finish(checkpoint(load(str(folder)), out=str(tmp_path / "out"), format=PACKED, scheme=RTN)).document
    assert found["bytes"] == pytest.approx(found["tensor_bytes"], rel=0.02)
    assert found["measured_file"] == pytest.approx(4.5, rel=0.02)


def refuse(loaded: LoadedModel, finish: Finish, out: Path, expected: str, **asked: Any) -> None:
    with pytest.raises(WorkbenchError, match=expected):
        finish(checkpoint(loaded, out=str(out), **asked))
    assert not os.path.lexists(out)
    assert not [name for name in os.listdir(out.parent) if "partial" in name]


def test_zero_points_are_refused_with_the_versions_and_the_way_out(
    wide: LoadedModel, finish: Finish, tmp_path: Path
) -> None:
    scheme = {**RTN, "symmetric": False}
    expected = r"0\.18, 0\.19 and 0\.20 fail.*0\.15 to 0\.17 can.*allocate MODEL --symmetric"
    refuse(wide, finish, tmp_path / "out", expected, format=PACKED, scheme=scheme)


@pytest.mark.parametrize(
    ("installed", "zeros", "gaps"),
    [("0.14.9", False, True), ("0.15.0.1", True, True), ("0.17.0", True, True), ("0.20.0", False, False)],
)
def test_what_versions_load(
    installed: str, zeros: bool, gaps: bool, wide: LoadedModel, finish: Finish, tmp_path: Path, monkeypatch: Any
) -> None:
    assert packed.loads_zero_points(installed) is zeros
    assert packed.packs_without_gaps(installed) is not gaps
    monkeypatch.setattr(packed, "version", lambda name: installed)
    if gaps:
        three = r"3 bits, which compressed-tensors .* packs in another way.*>=0\.18"
        refuse(wide, finish, tmp_path / "out", three, format=PACKED, scheme={**RTN, "bits": 3})


def test_zero_points_are_packed_down_the_rows_for_versions_that_load_them(
    wide: LoadedModel, finish: Finish, tmp_path: Path, monkeypatch: Any
) -> None:
    import lowbit

    answer_without_a_process(monkeypatch)
    monkeypatch.setattr(packed, "version", lambda name: "0.17.0")
    scheme = {**RTN, "symmetric": False}
    finish(checkpoint(wide, out=str(tmp_path / "out"), format=PACKED, scheme=scheme))
    place = "model.layers.0.mlp.gate_proj.weight"
    words = tensors_of(tmp_path / "out")[f"{place}_zero_point"]
    ours = lowbit.quantize(wide.model.get_parameter(place).detach(), bits=4, group_size=32).zero
    assert ours is not None
    assert words.shape == (128 * 4 // 32, 2)
    read = torch.tensor(
        [[(int(words[row // 8, group]) >> (4 * (row % 8))) & 15 for group in range(2)] for row in range(128)]
    )
    assert torch.equal(read, ours.long())


def test_short_groups_conv1d_and_other_grids_are_refused(
    tiny_llama: LoadedModel, tiny_gpt2: LoadedModel, wide: LoadedModel, finish: Finish, tmp_path: Path, texts: Any
) -> None:
    out = tmp_path / "out"
    short = r"172 columns, and its last group of 64 is short.*choose a group size of -1"
    refuse(tiny_llama, finish, out, short, format=PACKED, scheme={**RTN, "group_size": 64})
    refuse(tiny_gpt2, finish, out, "Conv1D.*--format dense", format=PACKED, scheme=RTN)
    ordered = {**RTN, "quantizer": "gptq", "options": {"act_order": True}}
    sizes = {"calibration": texts["calibration"], "tokens": 128, "window": 32}
    refuse(wide, finish, out, "ReorderedWeight.*static_groups", format=PACKED, scheme=ordered, **sizes)
    refuse(wide, finish, out, "unknown format 'gguf'", format="gguf", scheme=RTN)
    refuse(wide, finish, out, "nothing says how to quantize")


def test_a_missing_library_is_told_before_anything_is_computed(
    wide: LoadedModel, finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise packed.PackageNotFoundError(name)

    monkeypatch.setattr(packed, "version", missing)
    refuse(wide, finish, tmp_path / "out", r"pip install 'salience-workbench\[export\]'", format=PACKED, scheme=RTN)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "workbench-plan.json"])
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(
    wide: LoadedModel, finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    answer_without_a_process(monkeypatch)
    full = OSError(28, "No space left on device")

    def write_some_and_fail(*arguments: Any, **keywords: Any) -> None:
        path = next(one for one in arguments if isinstance(one, Path))
        (path / file if path.is_dir() else path).write_bytes(b"half")
        raise full

    owner, name = {
        "model.safetensors": (writing, "save_file"),
        "config.json": (type(wide.model.config), "save_pretrained"),
        "tokenizer.json": (type(wide.tokenizer), "save_pretrained"),
        "workbench-plan.json": (Path, "write_text"),
    }[file]
    monkeypatch.setattr(owner, name, write_some_and_fail)
    refuse(wide, finish, tmp_path / "out", "No space left on device; nothing of it is left", scheme=RTN)


@pytest.mark.slow
def test_a_checkpoint_that_computes_something_else_is_not_kept(
    wide: LoadedModel, finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fresh process is given other weights than were measured: one matrix of zeros is enough."""

    def dense_but_one(loaded: LoadedModel, weights: Any) -> dict[str, torch.Tensor]:
        held = {name: one.float().contiguous() for name, one in weights.items()}
        held["model.layers.1.mlp.down_proj.weight"] = torch.zeros(64, 128)
        return held

    monkeypatch.setattr("workbench.studies.checkpoint_parts.dense_tensors", dense_but_one)
    expected = "a fresh process computes other logits from the checkpoint than were measured"
    refuse(wide, finish, tmp_path / "out", expected, scheme=RTN)


def test_a_run_that_is_cancelled_leaves_nothing(wide: LoadedModel, tmp_path: Path) -> None:
    steps = checkpoint(wide, out=str(tmp_path / "out"), scheme=RTN)
    for progress in steps:
        if "fresh process" in progress.note:
            break
    assert [name for name in os.listdir(tmp_path) if "partial" in name]
    steps.close()
    assert os.listdir(tmp_path) == []


def test_a_tied_head_is_stored_once(tiny_llama: LoadedModel, finish: Finish, tmp_path: Path, monkeypatch: Any) -> None:
    answer_without_a_process(monkeypatch)
    finish(checkpoint(tiny_llama, out=str(tmp_path / "out"), scheme={**RTN, "group_size": -1}))
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
