"""No quantizer brings tensors of two devices together: each gives on another device what it gives on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from layers import site_statistics
from quick_options import QUANTIZERS as QUICK
from second_device import SecondDevice, There, moved, send

from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices
from workbench.model.texts import make_windows, read_text
from workbench.model.weightstats import WeightStatistics, only_of_inputs
from workbench.progress import run
from workbench.quantizers.driver import quantize_model
from workbench.quantizers.driving.schemes import complete_scheme, quantize_matrix
from workbench.registry import Method, quantizers
from workbench.scheme import Scheme

MATRIX = [method for method in quantizers.methods() if method.traits["scope"] == "matrix"]
WIDER = [method for method in quantizers.methods() if method not in MATRIX]
AT_WORK: list[Any] = [
    ("llama", "gptq", {"inputs": "sequential"}),  # statistics of inputs, also behind quantized matrices
    ("llama", "squeezellm", {}),  # gradients
    *(("llama", method.name, {}) for method in WIDER),
    pytest.param("llama", "awq", {"scales": "stored", "clip": False}, marks=pytest.mark.slow),
    ("llama", "ptq161", {"mean": "none", "grid": "salient", "preprocess_steps": 1}),
    ("gpt2", "awq", {}),  # biases, and layer norms that absorb
]
"""Model, quantizer and options."""


def width_of(method: Method) -> int | None:
    return None if method.traits.get("fixed_width") else 3


def branches(method: Method) -> list[dict[str, Any]]:
    """The method as it is, and with every other choice and switch of every option, one at a time."""
    quick, found = QUICK.get(method.name, {}), [{}]
    for option in (one for one in method.options if one.name != "inputs"):  # of which the driver alone takes notice
        values = option.choices if option.type == "choice" else (False, True) if option.type == "bool" else ()
        found += [{option.name: value} for value in values or () if value != option.default]
    return [{**quick, **one} for one in found]


def long(method: Method, options: dict[str, Any]) -> bool:
    """Whether it takes seconds, and differs from another case only by an option."""
    return method.name == "slim_llm" and bool(options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        pytest.param(method, one, id=f"{method.name} {one or ''}", marks=[pytest.mark.slow] * long(method, one))
        for method in MATRIX
        for one in branches(method)
    ],
)
def test_a_matrix_that_lies_elsewhere(method: Method, options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, inputs = 0.05 * torch.randn(6, 72, generator=generator), torch.randn(150, 72, generator=generator)
    stats: Any = site_statistics(inputs)
    if not only_of_inputs(method.needs):
        stats = WeightStatistics(site=stats, windows=4, grad_sq=torch.rand(weight.shape, generator=generator).square())
    scheme = complete_scheme(Scheme(method.name, width_of(method), 32, options=options))
    here = quantize_matrix(weight, stats, scheme)
    with SecondDevice():
        there = quantize_matrix(moved(weight), moved(stats), scheme)
        assert [name for name, held in there.tensors().items() if not isinstance(held, There)] == []
        assert torch.equal(there.dequantize().cpu(), here.dequantize())


@pytest.fixture(scope="module")
def sent(tiny_llama_folder: Path, tiny_gpt2_folder: Path) -> dict[str, LoadedModel]:
    """The random models on the second device."""
    with SecondDevice():
        return {"llama": send(load(str(tiny_llama_folder))), "gpt2": send(load(str(tiny_gpt2_folder)))}


def test_methods_of_more_than_a_matrix_are_there() -> None:
    assert {"awq", "ptq161", "requant", "kl_precalibration"} <= {method.name for method in WIDER}


@pytest.mark.parametrize(("model", "name", "options"), AT_WORK, ids=lambda one: str(one) if one else "")
def test_a_model_that_lies_elsewhere(
    model: str,
    name: str,
    options: dict[str, Any],
    sent: dict[str, LoadedModel],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """The model computes there, methods are handed its weights and statistics here.

    What it computes differs in the last digits, since attention adds up in another order there: a choice between near
    equals may turn, and no more.
    """
    loaded: LoadedModel = request.getfixturevalue(f"tiny_{model}")
    (tmp_path / "text.txt").write_text("The small dog sat by the old door. It was cold. " * 20)
    text = read_text(str(tmp_path / "text.txt"))
    windows = make_windows(text, loaded.tokenizer, window=32, tokens=64, context=loaded.context)
    method = quantizers.get(name)
    scheme = complete_scheme(Scheme(name, width_of(method), 64, options={**QUICK.get(name, {}), **options}))
    every = quantizable_matrices(loaded.model)
    last, few = [one for one in every if one.block == 1], [one for one in every if one.role in ("k_proj", "o_proj")]
    assignment = {one.name: scheme for one in (last if method.traits["scope"] == "block" else few)}
    here = run(quantize_model(loaded, assignment, windows)).dense()
    with SecondDevice():
        there = run(quantize_model(sent[model], assignment, windows)).dense()
    assert set(there) == set(here) == set(assignment)
    for matrix, values in here.items():
        assert not isinstance(there[matrix], There)
        assert float((there[matrix] - values).norm() / values.norm()) < 0.1, matrix
