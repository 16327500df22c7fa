"""The matrices of every family are found by class, in order, with the sites that they really share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, Conv1D, PreTrainedModel

from workbench.model.load import LoadedModel, load
from workbench.model.matrices import Matrix, quantizable_matrices, read_weight, skipped_parameters

PLAIN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
GATED = PLAIN | {"intermediate_size": 48, "num_key_value_heads": 2}
HEADED = GATED | {"head_dim": 8}
CONV = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
QKV, GATE_UP = {"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}
REST = [{"o_proj"}, {"down_proj"}]

# family -> settings, sites of one block as sets of roles, matrices outside of the blocks
FAMILIES: dict[str, tuple[dict[str, Any], list[set[str]], set[str]]] = {
    "llama": (GATED, [QKV, GATE_UP, *REST], set()),
    "qwen2": (GATED, [QKV, GATE_UP, *REST], set()),
    "qwen3": (HEADED, [QKV, GATE_UP, *REST], set()),
    "mistral": (GATED, [QKV, GATE_UP, *REST], set()),
    "gemma": (HEADED, [QKV, GATE_UP, *REST], set()),
    "gemma2": (HEADED, [QKV, GATE_UP, *REST], set()),
    "gemma3_text": (HEADED, [QKV, GATE_UP, *REST], set()),
    "phi3": (GATED | {"pad_token_id": 0}, [{"qkv_proj"}, {"o_proj"}, {"gate_up_proj"}, {"down_proj"}], set()),
    "phi": (GATED, [{*QKV, "fc1"}, {"dense"}, {"fc2"}], set()),
    "opt": (
        PLAIN | {"ffn_dim": 48, "word_embed_proj_dim": 16},
        [QKV, {"out_proj"}, {"fc1"}, {"fc2"}],
        {"project_in", "project_out"},
    ),
    "gpt_neox": (
        PLAIN | {"intermediate_size": 48},
        [{"query_key_value"}, {"dense"}, {"dense_h_to_4h"}, {"dense_4h_to_h"}],
        set(),
    ),
    "gpt2": (CONV, [{"c_attn"}, {"c_proj"}, {"c_fc"}, {"c_proj"}], set()),
    "gptj": (CONV | {"rotary_dim": 4}, [{*QKV, "fc_in"}, {"out_proj"}, {"fc_out"}], set()),
    "falcon": (PLAIN, [{"query_key_value", "dense_h_to_4h"}, {"dense"}, {"dense_4h_to_h"}], set()),
    "bloom": (
        {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        [{"query_key_value"}, {"dense"}, {"dense_h_to_4h"}, {"dense_4h_to_h"}],
        set(),
    ),
    "mixtral": (GATED | {"num_local_experts": 4}, [QKV, {"o_proj"}], set()),
}


def build(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=96, bos_token_id=1, eos_token_id=2, **FAMILIES[family][0])
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> tuple[str, PreTrainedModel]:
    return request.param, build(request.param)


def test_blocks_roles_and_sites(family: tuple[str, PreTrainedModel]) -> None:
    name, model = family
    _, sites, outside = FAMILIES[name]
    matrices = quantizable_matrices(model)
    for block in (0, 1):
        shared: dict[str, set[str]] = {}
        for matrix in matrices:
            if matrix.block == block:
                shared.setdefault(matrix.site, set()).add(matrix.role)
        assert sorted(map(sorted, shared.values())) == sorted(map(sorted, sites))
    assert {matrix.role for matrix in matrices if matrix.block is None} == outside
    assert [matrix.block for matrix in matrices if matrix.block is not None] == sorted(
        matrix.block for matrix in matrices if matrix.block is not None
    )


def test_a_matrix_is_what_its_module_computes(family: tuple[str, PreTrainedModel]) -> None:
    """Outputs of the module itself against `X W^T + b` with the weight that is read."""
    _, model = family
    for matrix in quantizable_matrices(model):
        weight = read_weight(model, matrix)
        assert weight.shape == matrix.shape
        assert weight.is_contiguous()
        assert weight.numel() == matrix.parameters
        module = model.get_submodule(matrix.module)
        inputs = torch.randn(3, matrix.columns)
        expected = inputs @ weight.T + (module.bias if module.bias is not None else 0)
        torch.testing.assert_close(module(inputs), expected)


def test_matrices_and_skipped_parameters_make_the_whole_model(family: tuple[str, PreTrainedModel]) -> None:
    _, model = family
    counted = sum(one.parameters for one in (*quantizable_matrices(model), *skipped_parameters(model)))
    assert counted == sum(parameter.numel() for parameter in model.parameters())


def test_names_are_those_of_parameters_and_never_of_embeddings_or_head(family: tuple[str, PreTrainedModel]) -> None:
    _, model = family
    named = dict(model.named_parameters(remove_duplicate=False))
    apart = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    for matrix in quantizable_matrices(model):
        assert isinstance(model.get_submodule(matrix.module), (nn.Linear, Conv1D))
        assert id(named[matrix.name]) not in apart


def test_looking_leaves_no_trace(family: tuple[str, PreTrainedModel]) -> None:
    _, model = family
    quantizable_matrices(model)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert not model.training


def test_gpt2_is_read_transposed(tiny_gpt2: LoadedModel) -> None:
    matrix = next(one for one in quantizable_matrices(tiny_gpt2.model) if one.role == "c_attn")
    stored = tiny_gpt2.model.get_parameter(matrix.name)
    assert matrix.transposed
    assert (matrix.rows, matrix.columns) == (192, 64)
    assert tuple(stored.shape) == (64, 192)
    assert torch.equal(read_weight(tiny_gpt2.model, matrix), stored.T)


def test_llama_by_hand(tiny_llama: LoadedModel) -> None:
    first = "model.layers.0.self_attn.q_proj"
    assert quantizable_matrices(tiny_llama.model)[1] == Matrix(
        name="model.layers.0.self_attn.k_proj.weight",
        module="model.layers.0.self_attn.k_proj",
        block=0,
        role="k_proj",
        rows=32,
        columns=64,
        site=first,
        transposed=False,
    )
    assert len(quantizable_matrices(tiny_llama.model)) == 14


@pytest.mark.parametrize(
    ("family", "name", "word"),
    [
        ("llama", "model.embed_tokens.weight", "embedding table"),
        ("llama", "lm_head.weight", "output head"),
        ("llama", "model.layers.*.input_layernorm.weight", "one-dimensional"),
        ("gemma", "lm_head.weight", "shares its values with model.embed_tokens.weight"),
        ("gpt2", "transformer.wpe.weight", "part of a Embedding"),
        ("gpt2", "transformer.h.*.attn.c_attn.bias", "one-dimensional"),
        ("mixtral", "model.layers.*.mlp.experts.down_proj", "3 dimensions"),
        ("mixtral", "model.layers.*.mlp.gate.weight", "not a linear layer"),
    ],
)
def test_skipped_parameters_say_why(family: str, name: str, word: str) -> None:
    entries = {entry.name: entry.reason for entry in skipped_parameters(build(family))}
    assert word in entries[name]


def test_a_linear_layer_that_is_never_called_is_skipped() -> None:
    """Mamba multiplies with the weight of dt_proj itself, so nobody can see that matrix's input."""
    config = AutoConfig.for_model("mamba", vocab_size=96, hidden_size=32, num_hidden_layers=1, state_size=4)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert "dt_proj" not in {matrix.role for matrix in quantizable_matrices(model)}
    reasons = {entry.name: entry.reason for entry in skipped_parameters(model)}
    assert "cannot be observed" in reasons["backbone.layers.*.mixer.dt_proj.weight"]


def test_a_weight_that_two_layers_share_is_one_matrix() -> None:
    model = build("llama")
    layers = model.model.layers
    layers[1].mlp.down_proj.weight = layers[0].mlp.down_proj.weight
    downs = [matrix.name for matrix in quantizable_matrices(model) if matrix.role == "down_proj"]
    assert downs == ["model.layers.0.mlp.down_proj.weight"]
    counted = sum(one.parameters for one in (*quantizable_matrices(model), *skipped_parameters(model)))
    assert counted == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "opt", "gpt_neox", "falcon", "mixtral"])
def test_families_open_from_a_folder(family: str, make_model_folder: Callable[..., Path], tmp_path: Path) -> None:
    loaded = load(str(make_model_folder(tmp_path / family, family, **FAMILIES[family][0])))
    assert quantizable_matrices(loaded.model)


@pytest.mark.parametrize(("name", "matrices", "sites"), [("stories260K", 35, 20), ("classic-gpt2", 16, 16)])
def test_real_models(shared_models: Path, name: str, matrices: int, sites: int) -> None:
    found = quantizable_matrices(load(str(shared_models / name)).model)
    assert (len(found), len({matrix.site for matrix in found})) == (matrices, sites)
