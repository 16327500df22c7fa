"""Nothing goes round the kernels: when lowbit's calls are broken, nothing that takes bits away by them works.

Methods with codes of their own making (tables, companded grids) pack them by `lowbit.pack`, as the sizes of what they
hold show (`test_stored_bits.py`)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layers import site_statistics

import lowbit
from workbench import studies
from workbench.model.load import LoadedModel
from workbench.progress import run
from workbench.quantizers.driving.schemes import complete_scheme, quantize_matrix
from workbench.registry import quantizers

SCHEME = {"quantizer": "rtn", "bits": 3, "group_size": 32}


class KernelUsedError(Exception):
    """What the broken kernels raise."""


@pytest.fixture(params=["quantize", "dequantize"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the two kernels raises."""

    def refuse(*_: Any, **__: Any) -> None:
        raise KernelUsedError(request.param)

    monkeypatch.setattr(lowbit, request.param, refuse)
    return request.param


@pytest.fixture
def texts(tmp_path: Any) -> dict[str, Any]:
    calibration, text = tmp_path / "calibration.txt", tmp_path / "text.txt"
    calibration.write_text("A dog sat by the door. " * 40)
    text.write_text("The cat ran up the tree! " * 40)
    return {"calibration": str(calibration), "tokens": 128, "window": 64, "text": str(text)}


def test_round_to_nearest(broken: str) -> None:
    with pytest.raises(KernelUsedError):
        quantize_matrix(torch.randn(8, 64), None, complete_scheme(SCHEME)).dequantize()


@pytest.mark.parametrize("name", ["gptq", "slim_llm", "pb_llm", "billm", "output_optimal_binary"])
def test_codes_that_lowbit_holds_are_read_by_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise KernelUsedError(name)

    fixed = quantizers.get(name).traits.get("fixed_width")
    scheme = complete_scheme({**SCHEME, "quantizer": name, "bits": None if fixed else 3})
    held = quantize_matrix(torch.randn(8, 64), site_statistics(torch.randn(200, 64)), scheme)
    monkeypatch.setattr(lowbit, "dequantize", refuse)
    with pytest.raises(KernelUsedError):
        held.dequantize()


def test_the_layer_error_study(tiny_llama: LoadedModel, broken: str, texts: dict[str, Any]) -> None:
    given = {key: texts[key] for key in ("calibration", "tokens", "window")}
    with pytest.raises(KernelUsedError):
        run(studies.layer_error(tiny_llama, schemes=[SCHEME], **given))


def test_evaluate(tiny_llama: LoadedModel, broken: str, texts: dict[str, Any]) -> None:
    with pytest.raises(KernelUsedError):
        run(studies.evaluate(tiny_llama, scheme=SCHEME, **texts))


def test_the_full_model_needs_no_kernel(tiny_llama: LoadedModel, broken: str, texts: dict[str, Any]) -> None:
    found = run(studies.evaluate(tiny_llama, scheme=None, **texts))
    assert found.document["perplexity"] > 1
