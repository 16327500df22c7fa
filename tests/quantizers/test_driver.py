"""The walk through a model: each quantizer gets what it asked for, and a stop loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.linalg import DampingRaised
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.model.statistics import collect
from workbench.model.texts import Windows, make_windows, read_text
from workbench.progress import run
from workbench.quantizers.driver import Quantized, quantize_model
from workbench.quantizers.driving import single
from workbench.quantizers.driving.schemes import complete_scheme, quantize_matrix
from workbench.quantizers.weight import QuantizedWeight
from workbench.scheme import Scheme

TEXT = "The small dog sat by the old door. It was cold, and nobody came. " * 20


@pytest.fixture
def windows_of(tmp_path: Path):
    def make(loaded: LoadedModel, tokens: int = 512) -> Windows:
        (tmp_path / "text.txt").write_text(TEXT)
        text = read_text(str(tmp_path / "text.txt"))
        return make_windows(text, loaded.tokenizer, window=64, tokens=tokens, context=loaded.context)

    return make


def everywhere(loaded: LoadedModel, **scheme: Any) -> dict[str, Scheme]:
    one = complete_scheme({"group_size": 64, "symmetric": False, "options": {}, **scheme})
    return {matrix.name: one for matrix in quantizable_matrices(loaded.model)}


def assert_same(one: Mapping[str, QuantizedWeight], other: Mapping[str, QuantizedWeight]) -> None:
    assert list(one) == list(other)
    for name, weight in one.items():
        mine, theirs = weight.tensors(), other[name].tensors()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[part], theirs[part]) for part in mine), name


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
def test_inputs_of_the_full_model_are_those_of_one_sweep(model: str, request, windows_of) -> None:
    loaded = request.getfixturevalue(model)
    windows = windows_of(loaded)
    assignment = everywhere(loaded, quantizer="gptq", bits=3, options={"inputs": "full"})
    found = run(quantize_model(loaded, assignment, windows)).weights
    statistics = run(collect(loaded, windows, needs={"gram"}))
    for matrix in quantizable_matrices(loaded.model):
        alone = quantize_matrix(read_weight(loaded.model, matrix), statistics.of(matrix), assignment[matrix.name])
        assert torch.equal(found[matrix.name].dequantize(), alone.dequantize()), matrix.name


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
def test_inputs_behind_quantized_blocks_are_those_of_the_quantized_model(model: str, request, windows_of) -> None:
    """The second block by hand: statistics of the whole model while the first block's weights lie over it."""
    loaded = request.getfixturevalue(model)
    windows = windows_of(loaded)
    assignment = everywhere(loaded, quantizer="gptq", bits=2, options={"inputs": "quantized"})
    found = run(quantize_model(loaded, assignment, windows)).weights
    matrices = quantizable_matrices(loaded.model)
    first = {m.name: found[m.name].dequantize() for m in matrices if m.block == 0}
    with overlay(loaded.model, first):
        statistics = run(collect(loaded, windows, needs={"gram"}))
    isolated = run(quantize_model(loaded, assignment, windows, isolated=True)).weights
    differ = 0
    for matrix in (m for m in matrices if m.block == 1):
        by_hand = quantize_matrix(read_weight(loaded.model, matrix), statistics.of(matrix), assignment[matrix.name])
        error = (found[matrix.name].dequantize() - by_hand.dequantize()).norm() / by_hand.dequantize().norm()
        assert error < 1e-3, matrix.name
        differ += not torch.equal(found[matrix.name].dequantize(), isolated[matrix.name].dequantize())
    assert differ > 0


def test_sequential_inputs_see_the_earlier_matrices_of_the_same_block(tiny_llama: LoadedModel, windows_of) -> None:
    windows = windows_of(tiny_llama)
    matrices = [m for m in quantizable_matrices(tiny_llama.model) if m.block == 0]
    assignment = everywhere(tiny_llama, quantizer="gptq", bits=2, options={"inputs": "sequential"})
    found = run(quantize_model(tiny_llama, assignment, windows)).weights
    down = matrices[-1]
    with overlay(tiny_llama.model, {m.name: found[m.name].dequantize() for m in matrices[:-1]}):
        statistics = run(collect(tiny_llama, windows, needs={"gram"}))
    by_hand = quantize_matrix(read_weight(tiny_llama.model, down), statistics.of(down), assignment[down.name])
    error = (found[down.name].dequantize() - by_hand.dequantize()).norm() / by_hand.dequantize().norm()
    assert error < 1e-3


def test_a_mixed_plan_names_the_quantizer_of_each_matrix(tiny_llama: LoadedModel, windows_of) -> None:
    matrices = quantizable_matrices(tiny_llama.model)
    names = ["rtn", "gptq", "hqq", "squeezellm", "billm", "awq", "requant"]
    schemes = {}
    for place, matrix in enumerate(matrices):
        name = names[place % len(names)]
        bits = None if name == "billm" else 3
        schemes[matrix.name] = complete_scheme(Scheme(name, bits, 64))
    schemes[matrices[0].name] = Scheme("rtn", 16, 64)
    found = run(quantize_model(tiny_llama, schemes, windows_of(tiny_llama)))
    assert list(found.weights) == [matrix.name for matrix in matrices[1:]]
    for matrix in matrices[1:]:
        assert found.weights[matrix.name].shape == matrix.shape
        assert torch.isfinite(found.dense()[matrix.name]).all()


def test_what_reads_no_text_needs_none(tiny_llama: LoadedModel) -> None:
    found = run(quantize_model(tiny_llama, everywhere(tiny_llama, quantizer="rtn", bits=3), None))
    assert len(found.weights) == len(quantizable_matrices(tiny_llama.model))
    with pytest.raises(WorkbenchError, match="reads a calibration text"):
        run(quantize_model(tiny_llama, everywhere(tiny_llama, quantizer="gptq", bits=3), None))
    below = everywhere(tiny_llama, quantizer="kl_precalibration", bits=3, options={"dense": "rtn"})
    first = next(iter(below))
    assert list(run(quantize_model(tiny_llama, {first: below[first]}, None)).weights) == [first]


def test_a_damping_that_was_raised_is_told_with_the_result(
    tiny_llama: LoadedModel, windows_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warns(weight: torch.Tensor, stats: Any, scheme: Scheme) -> QuantizedWeight:
        warnings.warn("the damping was raised to 0.1", DampingRaised, stacklevel=2)
        return quantize_matrix(weight, stats, scheme)

    windows, assignment = windows_of(tiny_llama), everywhere(tiny_llama, quantizer="gptq", bits=3)
    monkeypatch.setattr(single, "quantize_matrix", warns)
    found = run(quantize_model(tiny_llama, assignment, windows, folder=tmp_path))
    assert found.notes == dict.fromkeys(found.weights, "the damping was raised to 0.1")
    monkeypatch.undo()
    assert run(quantize_model(tiny_llama, assignment, windows, folder=tmp_path)).notes == found.notes


def stopped(loaded: LoadedModel, assignment: dict[str, Scheme], windows: Windows, folder: Path) -> int:
    """Run until a part lies on disk, then close the generator as a cancel does; returns how many there are."""
    steps = quantize_model(loaded, assignment, windows, folder=folder)
    for _ in steps:
        if len(list(folder.rglob("*.safetensors"))) >= 1:
            steps.close()
            break
    return len(list(folder.rglob("*.safetensors")))


@pytest.mark.parametrize(
    "scheme",
    [{"quantizer": "gptq", "bits": 2}, {"quantizer": "awq", "bits": 3}, {"quantizer": "billm", "bits": None}],
    ids=lambda scheme: scheme["quantizer"],
)
def test_a_stopped_run_goes_on_and_gives_the_same_weights(
    tiny_llama: LoadedModel, windows_of, tmp_path: Path, scheme: dict[str, Any]
) -> None:
    windows, assignment = windows_of(tiny_llama), everywhere(tiny_llama, **scheme)
    whole = run(quantize_model(tiny_llama, assignment, windows)).weights
    assert stopped(tiny_llama, assignment, windows, tmp_path / "parts") == 1
    notes: list[str] = []
    again: Quantized = run(
        quantize_model(tiny_llama, assignment, windows, folder=tmp_path / "parts"), lambda p: notes.append(p.note)
    )
    assert_same(again.weights, whole)
    assert not any(note.startswith("quantizing model.layers.0.") for note in notes)


def test_a_damaged_part_is_made_again(tiny_llama: LoadedModel, windows_of, tmp_path: Path) -> None:
    windows, assignment = windows_of(tiny_llama), everywhere(tiny_llama, quantizer="gptq", bits=3)
    whole = run(quantize_model(tiny_llama, assignment, windows, folder=tmp_path)).weights
    for path in tmp_path.rglob("block-0.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    assert_same(run(quantize_model(tiny_llama, assignment, windows, folder=tmp_path)).weights, whole)


KILLED = """
import os, signal, sys
from pathlib import Path
import workbench
from workbench.model.matrices import quantizable_matrices
from workbench.quantizers.driving import single
from workbench.quantizers.driver import quantize_model
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows
model, folder = Context().model("demo"), Path(sys.argv[1])
scheme = complete_scheme({"quantizer": "gptq", "bits": 2, "group_size": 64, "symmetric": False, "options": {}})
assignment = {matrix.name: scheme for matrix in quantizable_matrices(model.model)}
for _ in quantize_model(model, assignment, calibration_windows(model, None, 2048, None), folder=folder):
    if len(list(folder.rglob("block-*.safetensors"))) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_run_on_the_embedded_model_goes_on_to_identical_packed_weights(tmp_path: Path) -> None:
    from workbench.studies.context import Context
    from workbench.studies.texts import calibration_windows

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-500:]
    kept = sorted(path.name for path in tmp_path.rglob("block-*.safetensors"))
    assert kept == ["block-0.safetensors", "block-1.safetensors"]
    model = Context().model("demo")
    windows = calibration_windows(model, None, 2048, None)
    assignment = everywhere(model, quantizer="gptq", bits=2)
    resumed = run(quantize_model(model, assignment, windows, folder=tmp_path)).weights
    assert_same(resumed, run(quantize_model(model, assignment, windows)).weights)
