"""The golden texts read by the targets' own libraries, where those are installed."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from planned_families import modules_of, plan_of

GOLDEN = Path(__file__).parents[1] / "data" / "exports"
LINEAR = ("llama", "opt")


@pytest.mark.parametrize("family", LINEAR)
def test_compressed_tensors_gives_every_module_its_scheme(family: str) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors (extra [export]) is not installed")
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.utils import is_match

    held = json.loads((GOLDEN / f"{family}.quantization_config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(held)
    layer = torch.nn.Linear(4, 4)
    for name, bits in modules_of(plan_of(family)).items():
        groups = config.config_groups.values()
        hits = [one.weights.num_bits for one in groups if is_match(name, layer, one.targets, config.ignore)]
        assert hits == ([] if bits == 16 else [bits])


@pytest.mark.parametrize("family", LINEAR)
def test_llm_compressor_reads_the_recipe(family: str) -> None:
    pytest.importorskip("llmcompressor", reason="llm-compressor is not installed")
    from llmcompressor.recipe import Recipe

    recipe = Recipe.create_instance(str(GOLDEN / f"{family}.recipe.yaml"))
    groups = [
        group
        for modifier in recipe.modifiers
        for group in modifier.resolve_quantization_config().config_groups.values()
    ]
    told = {target: group.weights.num_bits for group in groups for target in group.targets}
    assert sorted(told.values()) == sorted(bits for bits in modules_of(plan_of(family)).values() if bits != 16)


@pytest.mark.parametrize("family", LINEAR)
def test_torchao_builds_the_configuration(family: str) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    config: Any = runpy.run_path(str(GOLDEN / f"{family}.torchao_config.py"))["CONFIG"]
    for name, bits in modules_of(plan_of(family)).items():
        one = config.fqn_to_config[name]
        assert (16 if one is None else int(str(one.weight_dtype).removeprefix("torch.int"))) == bits


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_auto_round_reads_the_layer_config(family: str) -> None:
    schemes = pytest.importorskip("auto_round.schemes", reason="auto-round is not installed")
    held = json.loads((GOLDEN / f"{family}.layer_config.json").read_text())
    read = {name: schemes.QuantizationScheme.from_dict(one) for name, one in held.items()}
    assert {name: one.bits for name, one in read.items()} == modules_of(plan_of(family))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gguf_knows_every_type(family: str) -> None:
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    lines = (GOLDEN / f"{family}.tensor-types.txt").read_text().splitlines()
    assert {line.rpartition("=")[2].upper() for line in lines} <= set(gguf.GGMLQuantizationType.__members__)


@pytest.mark.parametrize("family", LINEAR)
def test_the_hqq_file_runs(family: str) -> None:
    pytest.importorskip("hqq", reason="hqq is not installed")
    held = runpy.run_path(str(GOLDEN / f"{family}.hqq_plan.py"))["SCHEMES"]
    assert {name: bits for name, (bits, _) in held.items()} == {
        name: bits for name, bits in modules_of(plan_of(family)).items() if bits != 16
    }


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_modelopt_validates_the_configuration(family: str) -> None:
    config = pytest.importorskip("modelopt.torch.quantization.config", reason="nvidia-modelopt is not installed")
    held = runpy.run_path(str(GOLDEN / f"{family}.modelopt_config.py"))["CONFIG"]
    read = config.QuantizeConfig.model_validate(held)
    assert len(read.quant_cfg) == 1 + sum(bits != 16 for bits in modules_of(plan_of(family)).values())
