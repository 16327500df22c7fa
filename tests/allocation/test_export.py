"""Plans in other tools' words: golden texts, names that match nothing else, and what cannot be carried."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from planned_families import FAMILIES, SCHEMES, inspected, modules_of, plan_of

from workbench.allocation.export import TARGETS, export
from workbench.allocation.importing.assemble import Wanted, assemble
from workbench.allocation.plan import Plan, read_plan, to_document
from workbench.errors import WorkbenchError

GOLDEN = Path(__file__).parents[1] / "data" / "exports"
LINEAR_ONLY = ("compressed-tensors", "llm-compressor", "torchao", "hqq")
REFUSED = {("llama.cpp", "opt"), *((target, "gpt2") for target in LINEAR_ONLY)}
NEEDS_GGUF = {("llama.cpp", "gpt2")}
TOLD = [
    pytest.param(target, family, id=f"{target}-{family}")
    for target in TARGETS
    for family in FAMILIES
    if (target, family) not in REFUSED
]


def text_of(target: str, family: str) -> str:
    if (target, family) in NEEDS_GGUF:
        pytest.importorskip("gguf", reason="names of GPT-2 in GGUF come from the package gguf, which is not installed")
    return export(plan_of(family), target).text


@pytest.mark.parametrize(("target", "family"), TOLD)
def test_the_text_is_the_golden_one(target: str, family: str) -> None:
    golden = GOLDEN / f"{family}.{TARGETS[target].file}"
    assert text_of(target, family) == golden.read_text(encoding="utf-8")


def patterns(value: Any) -> list[str]:
    """Everything in a document that is read as a regular expression, and a whole name as one."""
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in (*patterns(key), *patterns(one))]
    if isinstance(value, list):
        return [found for one in value for found in patterns(one)]
    text = str(value)
    return [text.removeprefix("re:").removeprefix("+:").removeprefix("-:")] if text[:3] in ("re:", "+:^", "-:^") else []


def bits_told(target: str, text: str, plan: Plan) -> dict[str, int]:
    """Module -> bits, as the target's own rules read the text; 16 where it is left alone."""
    modules = list(modules_of(plan))
    readers = {
        "compressed-tensors": lambda: by_groups(json.loads(text)["quantization_config"]["config_groups"], modules),
        "llm-compressor": lambda: by_groups(
            yaml.safe_load(text)["default_stage"]["default_modifiers"]["QuantizationModifier"]["config_groups"], modules
        ),
        "gptqmodel": lambda: by_dynamic(json.loads(text), modules),
        "auto-round": lambda: {name: entry["bits"] for name, entry in json.loads(text).items()},
        "torchao": lambda: {
            name: 16 if scheme is None else int(scheme[1])
            for name, scheme in by_source(text).items()
            if name in modules
        },
        "modelopt": lambda: {
            name: next(
                (e["cfg"]["num_bits"] for e in by_source(text) if e["quantizer_name"] == f"{name}.weight_quantizer"), 16
            )
            for name in modules
        },
        "hqq": lambda: dict.fromkeys(modules, 16) | {name: bits for name, (bits, _) in by_source(text).items()},
    }
    return readers[target]()


def by_groups(groups: dict[str, Any], modules: list[str]) -> dict[str, int]:
    """compressed-tensors matches a target that starts with re: from the beginning of the name."""
    found = dict.fromkeys(modules, 16)
    for group in groups.values():
        for target in group["targets"]:
            hits = [name for name in modules if re.match(target.removeprefix("re:"), name)]
            assert len(hits) == 1
            found[hits[0]] = group["weights"]["num_bits"]
    return found


def by_dynamic(config: dict[str, Any], modules: list[str]) -> dict[str, int]:
    """GPTQModel: negatives first, then the first match, each from the beginning of the name."""
    rules = sorted(config["dynamic"].items(), key=lambda rule: not rule[0].startswith("-:"))
    found = {}
    for name in modules:
        hit = next(((key, held) for key, held in rules if re.match(key[2:], name)), ("+:", {}))
        found[name] = 16 if hit[0].startswith("-:") else hit[1].get("bits", config["bits"])
    return found


def by_source(text: str) -> Any:
    """The one literal of a Python file; names in it stand for themselves."""
    tree = ast.parse(text)
    node = next(one for one in tree.body if isinstance(one, ast.Assign) and one.targets[0].id in ("CONFIG", "SCHEMES"))
    held = node.value.args[0] if isinstance(node.value, ast.Call) else node.value
    if isinstance(node.value, ast.Call):
        return {key.value: getattr(value, "id", None) for key, value in zip(held.keys, held.values, strict=True)}
    found = ast.literal_eval(held)
    return found.get("quant_cfg", found)


@pytest.mark.parametrize(("target", "family"), [one for one in TOLD if one.values[0] != "llama.cpp"])
def test_every_module_gets_its_own_bits_by_the_targets_rules(target: str, family: str) -> None:
    plan = plan_of(family)
    assert bits_told(target, text_of(target, family), plan) == modules_of(plan)


@pytest.mark.parametrize(("target", "family"), TOLD)
def test_layer_1_never_stands_for_layer_10(target: str, family: str) -> None:
    text = text_of(target, family)
    if target == "llama.cpp":
        found = [line.rpartition("=")[0] for line in text.splitlines()]
        first, tenth = [one for one in found if r"blk\.1\." in one], "blk.10.attn_q.weight"
    else:
        loaded = yaml.safe_load(text) if text.startswith("default") else json.loads(text) if text[0] == "{" else None
        found = patterns(loaded)
        first, tenth = found, next(name for name in modules_of(plan_of(family)) if ".10." in name)
    assert not [one for one in first if re.search(one, tenth) and "10" not in one]
    # and a longer name that holds a module's name is not matched either
    assert not [one for one in found if re.search(one, f"draft.{tenth}.extra")]


@pytest.mark.parametrize(("target", "family"), sorted(REFUSED))
def test_a_model_that_a_target_cannot_read_is_refused_with_the_way_out(target: str, family: str) -> None:
    expected = "gguf" if target == "llama.cpp" else "nn.Linear alone.*Conv1D.*--format dense"
    with pytest.raises(WorkbenchError, match=expected):
        export(plan_of(family), target)


@pytest.mark.parametrize("target", ["gptqmodel", "auto-round", "torchao", "modelopt"])
def test_a_width_that_a_target_lacks_is_refused_with_its_widths(target: str) -> None:
    with pytest.raises(WorkbenchError, match=r"no 1 bit weights.*2,3,4,8"):
        export(plan_of("llama", (Wanted(1, 64, True), Wanted(4, 64, True))), target)


@pytest.mark.parametrize("target", ["compressed-tensors", "hqq"])
def test_a_width_of_one_bit_is_told_where_there_is_one(target: str) -> None:
    plan = plan_of("llama", (Wanted(1, 64, True), Wanted(4, 64, True)))
    assert bits_told(target, export(plan, target).text, plan) == modules_of(plan)


def test_short_last_groups_are_refused_with_group_sizes_that_fit() -> None:
    facts = inspected("llama")
    facts["matrices"] = [{"name": "model.layers.0.mlp.down_proj.weight", "shape": [8, 160], "parameters": 1280}]
    plan = assemble({"model.layers.0.mlp.down_proj.weight": Wanted(4, 64, True)}, facts, "test", []).plan
    for target in LINEAR_ONLY:
        with pytest.raises(WorkbenchError, match=r"160 columns are no multiple of 64.*--group-size 32, -1"):
            export(plan, target)
    assert any("filled up with zeros" in line for line in export(plan, "auto-round").losses)


def test_a_group_as_wide_as_the_row_is_a_row() -> None:
    plan = plan_of("llama", (Wanted(4, 128, True),))
    config = json.loads(export(plan, "auto-round").text)
    assert config["model.layers.1.self_attn.q_proj"]["group_size"] == 128
    facts = inspected("llama")
    facts["matrices"] = [{"name": "model.layers.0.mlp.up_proj.weight", "shape": [8, 64], "parameters": 512}]
    small = assemble({"model.layers.0.mlp.up_proj.weight": Wanted(4, 128, True)}, facts, "test", []).plan
    assert json.loads(export(small, "auto-round").text)["model.layers.0.mlp.up_proj"]["group_size"] == -1


LOST = {
    "compressed-tensors": "zero points: compressed-tensors 0.18 to 0.20 cannot load them",
    "llm-compressor": "the zero points of",
    "gptqmodel": "the method 'rtn' of",
    "auto-round": "learns its own rounding",
    "torchao": "rounds to nearest on its own grid",
    "modelopt": "its integer weights are symmetric",
    "hqq": "solves for its own zero points",
    "llama.cpp": "the size changes",
}


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_lost_is_said(target: str) -> None:
    losses = export(plan_of("llama", (Wanted(4, 64, False),)), target).losses
    assert any(LOST[target] in line for line in losses)
    assert not any(len(line) > 240 or "\n" in line for line in losses)


def test_options_of_gptq_go_where_there_is_a_word_for_them() -> None:
    tidy = {"act_order": False, "static_groups": False, "damping": 0.05, "block": 64, "inputs": "quantized"}
    plan = plan_of("llama", (Wanted(4, 64, True, "gptq", tidy), Wanted(4, 64, True, "rtn")))
    modifiers = yaml.safe_load(export(plan, "llm-compressor").text)["default_stage"]["default_modifiers"]
    assert list(modifiers) == ["QuantizationModifier", "GPTQModifier"]
    gptq = {name: modifiers["GPTQModifier"][name] for name in ("dampening_frac", "block_size", "actorder")}
    assert gptq == {"dampening_frac": 0.05, "block_size": 64, "actorder": None}
    assert not [line for line in export(plan, "llm-compressor").losses if "options" in line]
    ordered = plan_of("llama", (Wanted(4, 64, True, "gptq", {**tidy, "act_order": True, "inputs": "full"}),))
    told = export(ordered, "gptqmodel")
    assert json.loads(told.text)["desc_act"] is True
    assert json.loads(told.text)["damp_percent"] == 0.05
    assert "options of 'gptq' that are not carried as planned: inputs" in told.losses


def test_a_method_that_no_target_has_is_named_with_what_is_done_instead() -> None:
    plan = plan_of("llama", (Wanted(4, 64, False, "hqq"), Wanted(4, 64, False, "rtn")))
    assert any("the method 'hqq' of 7 matrices" in line for line in export(plan, "torchao").losses)
    assert not any("the method" in line and "'hqq'" in line for line in export(plan, "hqq").losses)


def test_weights_kept_apart_are_refused() -> None:
    document = to_document(plan_of("llama"))
    salient = {"kind": "dense_and_sparse", "ratio": 0.01, "criterion": "pqi", "value_dtype": "float16"}
    document["tensors"]["model.layers.1.self_attn.q_proj.weight"]["salient"] = salient
    with pytest.raises(WorkbenchError, match=r"keeps salient weights.*--format dense"):
        export(read_plan(document), "gptqmodel")


def test_an_unknown_target_and_a_plan_of_nothing_are_refused() -> None:
    with pytest.raises(WorkbenchError, match=r"unknown target 'awq'.*llama\.cpp"):
        export(plan_of("llama"), "awq")
    with pytest.raises(WorkbenchError, match="nothing to export"):
        export(plan_of("llama", (Wanted(16),)), "torchao")


def test_a_document_is_taken_as_well_as_a_plan() -> None:
    plan = plan_of("opt", SCHEMES)
    assert export(to_document(plan), "modelopt") == export(plan, "modelopt")


def test_a_name_from_outside_cannot_leave_its_literal() -> None:
    wild = 'model.layers.0."]); import os #\n'
    facts = {**inspected("llama"), "matrices": [{"name": f"{wild}.weight", "shape": [64, 64], "parameters": 4096}]}
    plan = assemble({f"{wild}.weight": Wanted(4, 64, True)}, facts, "test", []).plan
    document = to_document(plan)
    document["model"]["id"] = "x\nimport os"
    for target in ("torchao", "modelopt", "hqq"):
        text = export(document, target).text
        kinds = {type(one) for one in ast.parse(text).body}
        assert kinds <= {ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef}
        assert not [
            one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.Import) and one.names[0].name == "os"
        ]
    assert yaml.safe_load(export(document, "llm-compressor").text)["default_stage"]
