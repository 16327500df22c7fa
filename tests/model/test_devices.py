"""Devices and numbers: what is chosen, what a model does elsewhere, and that no method knows about it."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from second_device import SecondDevice, There, send

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.jobs.keys import key_facts
from workbench.measures.perplexity import window_logits
from workbench.model import devices, numbers
from workbench.model.load import LoadedModel, load
from workbench.progress import run
from workbench.results import Result
from workbench.studies.context import Context

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("salience", "attribution", "quantizers")
NAMED = {"cpu", "cuda", "mps", "xpu", "hip"}
PROMPT = "the cat sat"
RTN = {"quantizer": "rtn", "bits": 3, "group_size": 64}
TEXT = {"tokens": 256, "window": 64}


@pytest.mark.parametrize("room", ROOMS)
def test_no_method_names_a_device(room: str) -> None:
    found = []
    for path in sorted((ROOT / "workbench" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            called = node.attr if isinstance(node, ast.Attribute) else ""
            if text.split(":")[0].lower() in NAMED or called in ("cuda", "mps", "xpu"):
                found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    assert not found


def test_what_is_taken_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(devices.DEVICE, raising=False)
    monkeypatch.setattr(devices, "devices", lambda: ("cpu",))
    assert devices.choose_device().name == "cpu"
    monkeypatch.setattr(devices, "devices", lambda: ("mps", "cpu"))
    assert devices.choose_device().name == "cpu"  # Metal has no float64
    monkeypatch.setattr(devices, "devices", lambda: ("cuda:0", "cuda:1", "cpu"))
    assert devices.choose_device().name == "cuda:0"
    monkeypatch.setenv(devices.DEVICE, "cuda:1")
    assert devices.choose_device().name == "cuda:1"


@pytest.mark.parametrize("asked", ["cuda", "cuda:3", "mps", "tpu"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "devices", lambda: ("cpu",))
    monkeypatch.setenv(devices.DEVICE, asked)
    with pytest.raises(WorkbenchError, match=rf"WORKBENCH_DEVICE.*{asked}.*auto, cpu"):
        devices.choose_device()


def test_numbers_follow_the_processor_the_files_and_the_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"0" * 1000)
    monkeypatch.delenv(numbers.DTYPE, raising=False)
    monkeypatch.setattr(numbers, "amx_flags", lambda: ())
    assert numbers.choose_type(tmp_path).name == "float32"
    monkeypatch.setattr(numbers, "amx_flags", lambda: ("amx_bf16", "amx_int8", "amx_tile"))
    assert numbers.choose_type(tmp_path).name == "float32"  # small
    assert numbers.key_facts_of_numbers(tmp_path) == {}
    monkeypatch.setattr(numbers, "LARGE", 500)
    assert numbers.choose_type(tmp_path).name == "bfloat16"
    assert numbers.choose_type(tmp_path, on_cpu=False).name == "float32"
    assert numbers.key_facts_of_numbers(tmp_path) == {"products": "bfloat16", "device": "auto"}
    monkeypatch.setenv(numbers.DTYPE, "float32")
    assert numbers.choose_type(tmp_path).name == "float32"
    monkeypatch.setenv(numbers.DTYPE, "float8")
    with pytest.raises(WorkbenchError, match=r"float8.*auto, float32, bfloat16"):
        numbers.choose_type(tmp_path)


def test_rounded_products_are_another_model_with_the_same_weights(
    tiny_llama_folder: Path, tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"model": str(tiny_llama_folder)}
    plain = key_facts("inspect", spec)
    monkeypatch.setenv(numbers.DTYPE, "bfloat16")
    context = Context()
    rounded = context.model(str(tiny_llama_folder))
    assert rounded.identity.digest != tiny_llama.identity.digest
    assert rounded.identity.to_json() == tiny_llama.identity.to_json()
    assert key_facts("inspect", spec) != plain
    assert devices.placed() == {"device": "cpu", "products": "bfloat16"}
    weights = tiny_llama.model.state_dict()
    assert all(torch.equal(held, weights[name]) for name, held in rounded.model.state_dict().items())
    ids = torch.arange(3, 35)[None]
    full, near = window_logits(tiny_llama.model, ids), window_logits(rounded.model, ids)
    assert near.dtype == torch.float32
    assert 0 < float((near - full).norm() / full.norm()) < 0.05
    monkeypatch.delenv(numbers.DTYPE)
    assert Context().model(str(tiny_llama_folder)).identity.digest == tiny_llama.identity.digest


def test_statistics_and_cells_of_two_types_never_meet(
    tiny_llama_folder: Path, text_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep(context: Context) -> dict[str, Any]:
        loaded = context.model(str(tiny_llama_folder))
        spec: dict[str, Any] = {"bits": [3], "calibration": text_file, **TEXT}
        return run(studies.sensitivity(loaded, **spec, context=context)).document

    cells = Context(statistics=tmp_path / "statistics")
    first = sweep(cells)
    monkeypatch.setenv(numbers.DTYPE, "bfloat16")
    second = sweep(Context(cells.cells, tmp_path / "statistics"))
    assert first["reused"] == second["reused"] == 0
    assert [one["value"] for one in first["cells"]] != [one["value"] for one in second["cells"]]


@pytest.fixture
def text_file(tmp_path: Path) -> str:
    """1300 letters."""
    file = tmp_path / "text.txt"
    file.write_text("The small cat looks at the birds in the garden. " * 27, encoding="utf-8")
    return str(file)


ELSEWHERE: list[Any] = [
    ("evaluate", {"scheme": RTN}),
    ("salience", {"metric": "wanda"}),
    ("salience", {"metric": "fisher"}),
    pytest.param("salience", {"metric": "second_order"}, marks=pytest.mark.slow),
    pytest.param("layer_error", {"schemes": [{**RTN, "quantizer": "squeezellm"}]}, marks=pytest.mark.slow),
    ("sensitivity", {"bits": [3]}),
    ("sensitivity", {"bits": [3], "by": "joint-path"}),
    ("windows", {}),
    ("signal", {"schemes": [RTN]}),
    ("drift", {"prompts": [PROMPT], "scheme": RTN, "method": "linearised"}),
    pytest.param("damage_map", {"prompt": PROMPT, "scheme": RTN}, marks=pytest.mark.slow),
    ("attribute", {"prompt": PROMPT, "method": "integrated_gradients"}),
    ("attention_maps", {"prompt": PROMPT}),
]


@pytest.fixture(scope="module")
def sent(tiny_llama_folder: Path) -> LoadedModel:
    """The random Llama on the second device."""
    with SecondDevice():
        return send(load(str(tiny_llama_folder)))


@pytest.mark.parametrize(("kind", "spec"), ELSEWHERE, ids=lambda one: one if isinstance(one, str) else "")
def test_a_study_gives_the_same_on_another_device(
    kind: str, spec: dict[str, Any], sent: LoadedModel, tiny_llama: LoadedModel, text_file: str
) -> None:
    text = {"calibration": text_file, "text": _other(text_file), **TEXT}
    known = studies.inspect.signature(studies.STUDIES[kind]).parameters
    given = {**{name: value for name, value in text.items() if name in known}, **spec}
    study: Callable[..., Any] = studies.STUDIES[kind]
    here: Result = run(study(tiny_llama, **given, context=Context()))
    with SecondDevice():
        there: Result = run(study(sent, **given, context=Context()))
    assert _close(here.document, there.document), "the documents differ"


def _other(file: str) -> str:
    other = Path(file).with_name("other.txt")
    other.write_text("A quick brown fox jumps over a lazy dog and sleeps. " * 27, encoding="utf-8")
    return str(other)


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return set(one) == set(other) and all(_close(one[key], other[key]) for key in one if key != "seconds")
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-3, abs=1e-4, nan_ok=True)
    return one == other


def test_the_second_device_notices_what_a_card_would() -> None:
    with SecondDevice():
        there = There(torch.ones(2, 2))
        assert (there @ there).device.type == "lazy"
        assert torch.equal((there @ there).cpu(), torch.full((2, 2), 2.0))
        with pytest.raises(RuntimeError, match="same device"):
            there @ torch.ones(2, 2)
        with pytest.raises(RuntimeError):
            there.numpy()


def test_without_accelerate_a_model_that_is_too_large_says_what_to_install(
    tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(WorkbenchError, match=r"salience-workbench\[multi-gpu\]"):
        devices.spread(tiny_llama.model)


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="the extra multi-gpu is not installed")
def test_a_spread_model_computes_the_same(tiny_llama_folder: Path, tiny_llama: LoadedModel, text_file: str) -> None:
    spread = load(str(tiny_llama_folder))
    places = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.layers.0": "cpu"}
    places |= {"model.layers.1": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    devices.spread(spread.model, places)
    ids = torch.arange(3, 35)[None]
    assert torch.equal(window_logits(spread.model, ids), window_logits(tiny_llama.model, ids))
    text: dict[str, Any] = {"calibration": text_file, **TEXT}
    for kind, more in (("sensitivity", {"bits": [3]}), ("evaluate", {"scheme": RTN, "text": _other(text_file)})):
        here, there = (run(studies.STUDIES[kind](one, **text, **more)).document for one in (tiny_llama, spread))
        assert _close(here, there)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA card")
@pytest.mark.parametrize(("kind", "spec"), ELSEWHERE, ids=lambda one: one if isinstance(one, str) else "")
def test_a_card_gives_what_the_cpu_gives(
    kind: str, spec: dict[str, Any], tiny_llama_folder: Path, tiny_llama: LoadedModel, text_file: str
) -> None:
    card = load(str(tiny_llama_folder))
    model: Any = card.model
    model.to(torch.device(0))
    text = {"calibration": text_file, "text": _other(text_file), **TEXT}
    known = studies.inspect.signature(studies.STUDIES[kind]).parameters
    given = {**{name: value for name, value in text.items() if name in known}, **spec}
    here, there = (run(studies.STUDIES[kind](one, **given, context=Context())).document for one in (tiny_llama, card))
    assert _close(here, there)
