"""Plans made elsewhere: by hand, GPTQModel's dynamic block, llama.cpp's list; and ours, out and in again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from planned_families import FAMILIES, inspected, modules_of, plan_of

from workbench.allocation.export import export
from workbench.allocation.importing import Imported, import_plan
from workbench.allocation.plan import dumps
from workbench.allocation.schema import Plan
from workbench.errors import WorkbenchError
from workbench.scheme import affine_stored_bits


def read(document: Any, family: str = "llama") -> Imported:
    raw = document if isinstance(document, str) else json.dumps(document)
    return import_plan(raw.encode(), inspected(family))


def treated(plan: Plan) -> dict[str, tuple[int, int, bool]]:
    return {name: (one.bits, one.group_size, one.symmetric) for name, one in plan.tensors.items()}


Q, DOWN = "model.layers.1.self_attn.q_proj", "model.layers.10.mlp.down_proj"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["gptqmodel", "auto-round"])
def test_out_and_in_again_gives_the_same_schemes(target: str, family: str) -> None:
    plan = plan_of(family)
    back = read(export(plan, target).text, family).plan
    ours = {name: one for name, one in treated(plan).items() if one[0] != 16}
    assert {name: one for name, one in treated(back).items() if one[0] != 16} == ours
    assert modules_of(back) == modules_of(plan)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_out_and_in_again_through_llama_cpp_gives_the_same_bits(family: str) -> None:
    if family == "gpt2":
        pytest.importorskip("gguf", reason="names of GPT-2 in GGUF come from the package gguf, which is not installed")
    plan = plan_of(family)
    assert modules_of(read(export(plan, "llama.cpp").text, family).plan) == modules_of(plan)


def test_a_plan_of_ours_comes_back_as_it_is() -> None:
    plan = plan_of("opt")
    assert read(dumps(plan), "opt").plan == plan
    with pytest.raises(WorkbenchError, match=r"lacks 14 of the model's 14 matrices|is for another model"):
        read(dumps(plan), "llama")


def test_by_hand_a_default_and_exceptions_with_or_without_weight() -> None:
    given = {
        "default": {"bits": 4, "group_size": 64, "symmetric": True},
        Q: 8,
        f"{DOWN}.weight": {"bits": 3, "group_size": -1, "sym": False, "method": "gptq", "options": {"damping": 0.1}},
    }
    found = read(given)
    assert found.form == "plan by hand"
    assert found.losses == ()
    held = found.plan.tensors
    assert treated(found.plan)[f"{Q}.weight"] == (8, 64, True)
    assert treated(found.plan)["model.layers.10.mlp.up_proj.weight"] == (4, 64, True)
    one = held[f"{DOWN}.weight"]
    assert (one.bits, one.group_size, one.symmetric, one.method) == (3, -1, False, "gptq")
    assert one.method_options == {"damping": 0.1}
    assert one.storage_bits == round(one.numel * affine_stored_bits(*one.shape, 3, -1, False))


def test_what_is_not_named_is_left_alone_and_said() -> None:
    found = read({Q: 4})
    assert [name for name, one in treated(found.plan).items() if one[0] != 16] == [f"{Q}.weight"]
    assert any("13 matrices are not named" in line for line in found.losses)


def test_widths_and_groups_that_are_not_here_become_the_nearest_and_are_said() -> None:
    found = read({"default": 16, Q: {"bits": 5, "group_size": 100, "act_bits": 8}})
    assert treated(found.plan)[f"{Q}.weight"] == (8, 128, False)
    assert [line.partition(" (")[0] for line in found.losses] == [
        "not read: act_bits",
        "5 bits are no width here; 8 are taken",
        "group size 100 is none here; 128 is taken",
    ]


def test_gptqmodel_negatives_come_first_and_then_the_first_match() -> None:
    config = {
        "bits": 4,
        "group_size": 128,
        "sym": True,
        "desc_act": False,
        "dynamic": {
            r"+:model\.layers\.1\.": {"bits": 8},
            r"model\.layers\.1\.self_attn": {"bits": 2},  # too late for layer 1
            r".*\.down_proj$": {"bits": 3, "sym": False, "group_size": 32},
            r"-:.*v_proj": {},
            r"+:self_attn\.o_proj": {"bits": 2},  # matched from the start of a name: never
        },
        "pack_dtype": "int32",
    }
    found = read({"quantization_config": config})
    held = treated(found.plan)
    assert held[f"{Q}.weight"] == (8, 128, True)
    assert held[f"{DOWN}.weight"] == (3, 32, False)
    assert held["model.layers.1.mlp.down_proj.weight"][0] == 8
    assert held["model.layers.1.self_attn.v_proj.weight"][0] == 16
    assert held["model.layers.10.self_attn.o_proj.weight"] == (4, 128, True)
    assert {one.method for one in found.plan.tensors.values() if one.bits != 16} == {"gptq"}
    assert "not read of the configuration: pack_dtype" in found.losses
    assert sum("matches no matrix" in line for line in found.losses) == 2


def test_gptqmodel_act_order_counts_the_group_of_every_column() -> None:
    found = read({"bits": 4, "group_size": 64, "desc_act": True, "damp_percent": 0.05, "dynamic": {}})
    one = found.plan.tensors[f"{DOWN}.weight"]
    assert one.method_options == {"act_order": True, "damping": 0.05}
    grid = one.numel * affine_stored_bits(*one.shape, 4, 64, True)
    assert one.storage_bits == round(grid) + 16 * one.shape[1]


def test_llama_cpp_the_first_line_wins_and_a_quarrel_is_said() -> None:
    text = "attn_q=q8_0 blk\\.1\\.attn_q=q2_K\n^blk\\.10\\.ffn_down\\.weight$=Q5_K\nnowhere=f16\nffn_up=iq3_xxs"
    found = read(text)
    held = modules_of(found.plan)
    assert held[Q] == 8
    assert held[DOWN] == 8
    assert held["model.layers.1.mlp.up_proj"] == 3
    assert held["model.layers.1.mlp.gate_proj"] == 16
    assert any("several lines name blk.1.attn_q.weight: the first, q8_0" in line for line in found.losses)
    assert any("'nowhere' matches no matrix" in line for line in found.losses)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "what is read is"),
        ("# a comment\nattn_q=q8_0", "what is read is"),
        ("[1, 2]", "no JSON object"),
        ("attn_q=q9_Z", "unknown llama.cpp type 'q9_Z'; choose one of: q2_K"),
        ("attn_(q=q8_0", "the pattern 'attn_(q' cannot be read"),
        (
            '{"model.layers.1.self_attn.q_porj": 4}',
            "no matrix 'model.layers.1.self_attn.q_porj'; the nearest",
        ),
        ('{"default": "four"}', "default has value 'four'; it should be an object"),
        ('{"default": 4.5}', "default has value 4.5; it should be an object"),
        ('{"default": {"bits": true}}', "bits of default has value True; it should be a whole number"),
        ('{"default": {"bits": 17}}', "unknown width of "),
        ('{"default": {"bits": 0}}', "unknown width of "),
        ('{"default": {"bits": 4, "method": "billm"}}', "a plan from elsewhere may name one of: rtn, hqq, gptq, awq"),
        ('{"bits": 4, "dynamic": {"+:(": {}}}', "the pattern '+:(' cannot be read"),
        ('{"bits": 4, "dynamic": {"+:x": 3}}', "it should be an object"),
        ('{"bits": 4, "quant_method": "awq"}', "quant_method has value 'awq'"),
        ('{"bits": "4", "dynamic": {}}', "bits of the configuration has value '4'"),
        ('{"default": 4, "default": 8}', "the key 'default' stands twice"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(given: str, expected: str) -> None:
    with pytest.raises(WorkbenchError, match=re.escape(expected)):
        read(given)


def test_bytes_that_are_no_text_and_a_file_that_is_too_large_are_refused() -> None:
    with pytest.raises(WorkbenchError, match="not UTF-8"):
        import_plan(b"\xff\xfe\x00", inspected("llama"))
    with pytest.raises(WorkbenchError, match="at most 1,000,000 are read"):
        import_plan(b" " * 1_000_001, inspected("llama"))


def test_opt_in_llama_cpp_is_refused_where_its_names_are_not_known() -> None:
    with pytest.raises(WorkbenchError, match="gguf"):
        read("attn_q=q8_0", "opt")
