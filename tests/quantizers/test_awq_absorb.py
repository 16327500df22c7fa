"""What takes up the scales of a site: found in every family, and folded by hand into copies of models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from blocks_by_hand import build, first_task, loaded, numbers

from workbench.model.block_task import BlockTask
from workbench.model.load import LoadedModel
from workbench.progress import run
from workbench.quantizers.arithmetic.awq_absorb import find_absorber

# family -> site of the first block -> what absorbs its scales; a site that is left out absorbs nowhere
ABSORBERS = {
    "llama": {
        "self_attn.q_proj": "input_layernorm",
        "self_attn.o_proj": "self_attn.v_proj",
        "mlp.gate_proj": "post_attention_layernorm",
        "mlp.down_proj": "mlp.up_proj",
    },
    "llama, grouped queries": {
        "self_attn.q_proj": "input_layernorm",
        "mlp.gate_proj": "post_attention_layernorm",
        "mlp.down_proj": "mlp.up_proj",
    },
    "gemma": {
        "self_attn.q_proj": "input_layernorm",
        "self_attn.o_proj": "self_attn.v_proj",
        "mlp.gate_proj": "post_attention_layernorm",
        "mlp.down_proj": "mlp.up_proj",
    },
    "phi3": {
        "self_attn.qkv_proj": "input_layernorm",
        "self_attn.o_proj": "self_attn.qkv_proj",
        "mlp.gate_up_proj": "post_attention_layernorm",
        "mlp.down_proj": "mlp.gate_up_proj",
    },
    # a single key and value for all heads, and a GELU
    "falcon": {"self_attention.query_key_value": "input_layernorm"},
    "opt": {
        "self_attn.k_proj": "self_attn_layer_norm",
        "self_attn.out_proj": "self_attn.v_proj",
        "fc1": "final_layer_norm",
        "fc2": "fc1",
    },
    # what a norm behind attention returns also goes past the MLP
    "opt, norms behind": {"self_attn.out_proj": "self_attn.v_proj", "fc2": "fc1"},
    "gpt2": {"attn.c_attn": "ln_1", "attn.c_proj": "attn.c_attn", "mlp.c_fc": "ln_2"},
}


@pytest.fixture
def any_task(tiny_llama: LoadedModel) -> Callable[[str], BlockTask]:
    return lambda family: first_task(loaded(build(family), tiny_llama), numbers(96))


@pytest.mark.parametrize("family", ABSORBERS)
def test_what_can_absorb_scales_is_found_without_knowing_the_family(any_task: Callable[[str], BlockTask], family: str):
    task = any_task(family)
    found = {}
    for site in task.sites:
        absorber = run(find_absorber(task, site))
        if absorber is not None:
            path = absorber.norm or (absorber.matrix.module if absorber.matrix else "")
            found[task.block.inner(site)] = task.block.inner(path)
            assert absorber.shift == (1.0 if family == "gemma" and absorber.norm else 0.0)
    assert found == ABSORBERS[family]


@pytest.mark.parametrize("family", ["llama", "llama, grouped queries", "opt", "gpt2", "phi3", "gemma"])
def test_folded_scales_change_no_output(any_task: Callable[[str], BlockTask], family: str):
    """All of a block's scales written into a copy of it: norms and earlier matrices divided, columns multiplied."""
    task = any_task(family)
    held = copy.deepcopy(task.block.module)
    generator, offset = torch.Generator().manual_seed(3), 1.0 if family == "gemma" else 0.0
    with torch.no_grad():
        for site, absorber in ABSORBERS[family].items():
            readers = task.sites[f"{task.block.path}.{site}"]
            scale = torch.exp(torch.randn(readers[0].columns, generator=generator))
            for reader in readers:
                weight = held.get_submodule(task.block.inner(reader.module)).get_parameter("weight")
                weight *= scale[:, None] if reader.transposed else scale
            front: Any = held.get_submodule(absorber)
            if front.weight.ndim == 1:
                front.weight.copy_((front.weight + offset) / scale - offset)
            elif task.block.matrices[0].transposed:
                front.weight[:, -len(scale) :] /= scale
            else:
                front.weight[-len(scale) :] /= scale[:, None]
            if getattr(front, "bias", None) is not None:
                front.bias[-len(scale) :] /= scale
    hidden, call = task.inputs()[0], task.walk.call(task.block, 0)
    expected = task.run(0, hidden, {})
    output = held(hidden, *call.arguments, **call.keywords)
    output = output if isinstance(output, torch.Tensor) else output[0]
    assert float((output - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
