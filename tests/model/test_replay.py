"""Forwards taken up again behind a changed matrix, against whole ones; and what does not run in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from workbench.model.blocks import find_blocks
from workbench.model.matrices import Matrix, quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.model.replay import Resumable

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16, "max_position_embeddings": 64},
    "gpt_neox": {"use_parallel_residual": True},
    "falcon": {"new_decoder_architecture": False, "parallel_attn": True},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 4},
}
IDS = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(0))


def random_model(family: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spread = {"initializer_range": 0.1, "init_std": 0.1}
        config = AutoConfig.for_model(family, **SIZES | spread | FAMILIES[family])
        return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def changed(model: Any, matrix: Matrix) -> dict[str, torch.Tensor]:
    return {matrix.name: read_weight(model, matrix).round(decimals=1)}


@torch.no_grad()
def whole(model: Any, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    with overlay(model, weights):
        return model(input_ids=IDS, use_cache=False).logits


@contextmanager
def counted(model: Any) -> Iterator[Counter[str]]:
    """How often each module computes; one that something else stands for does not."""
    found: Counter[str] = Counter()
    former = {}

    def counting(path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **keywords: Any) -> Any:
            found[path] += 1
            return forward(*arguments, **keywords)

        return run

    for path, module in model.named_modules():
        former[module] = module.forward
        module.forward = counting(path, module.forward)
    try:
        yield found
    finally:
        for module in former:
            vars(module).pop("forward")


@pytest.mark.parametrize("to_the_end", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_matrix_gives_the_logits_of_a_whole_forward(family: str, to_the_end: bool) -> None:
    model = random_model(family)
    blocks = find_blocks(model)
    walk = Resumable(model, blocks, IDS)
    for block in blocks:
        if to_the_end:
            assert torch.equal(walk.stand_before(block), whole(model, {}))
        else:
            walk.step_before(block)
        for matrix in [*block.matrices, *reversed(block.matrices)]:
            weights = changed(model, matrix)
            with overlay(model, weights):
                found = walk.run(matrix)
            assert torch.equal(found, whole(model, weights)), matrix.name
            assert not torch.equal(found, whole(model, {}))
        walk.leave()
    assert not any("forward" in vars(module) for module in model.modules())


def test_blocks_may_be_left_out_and_gone_back_to() -> None:
    model = random_model("llama")
    blocks = find_blocks(model)
    walk = Resumable(model, blocks, IDS)
    for place in (2, 2, 0, 1):
        walk.step_before(blocks[place])
        matrix = blocks[place].matrices[-1]
        with overlay(model, changed(model, matrix)):
            assert torch.equal(walk.run(matrix), whole(model, changed(model, matrix)))
    walk.forget()
    with overlay(model, changed(model, matrix)):
        assert torch.equal(walk.run(matrix), whole(model, changed(model, matrix)))


def ran_for(model: Any, role: str) -> set[str]:
    """What computes inside the middle block when its matrix of this role is changed."""
    with counted(model) as found:
        blocks = find_blocks(model)
        walk = Resumable(model, blocks, IDS)
        walk.step_before(blocks[1])
        found.clear()
        matrix = next(one for one in quantizable_matrices(model) if one.block == 1 and one.role == role)
        with overlay(model, changed(model, matrix)):
            walk.run(matrix)
    assert not any(path.startswith(f"{blocks[0].path}.") for path in found)
    assert found[f"{blocks[2].path}"] == 1
    return {path.removeprefix(f"{blocks[1].path}.") for path in found if path.startswith(f"{blocks[1].path}.")}


@pytest.mark.parametrize(
    ("family", "role", "idle"),
    [
        ("llama", "q_proj", {"input_layernorm", "self_attn.k_proj", "self_attn.v_proj"}),
        ("llama", "o_proj", {"self_attn", "self_attn.q_proj"}),
        ("llama", "gate_proj", {"self_attn", "post_attention_layernorm", "mlp.up_proj"}),
        ("llama", "up_proj", {"self_attn", "mlp.gate_proj", "mlp.act_fn"}),
        ("llama", "down_proj", {"self_attn", "mlp", "mlp.up_proj"}),
        ("gpt_neox", "query_key_value", {"input_layernorm", "post_attention_layernorm", "mlp"}),
        ("gpt_neox", "dense_4h_to_h", {"attention", "mlp"}),
    ],
)
def test_what_a_change_does_not_reach_does_not_run(family: str, role: str, idle: set[str]) -> None:
    """Attention in front of its output projection, keys beside queries, a feed-forward that runs beside attention."""
    found = ran_for(random_model(family), role)
    assert any(path.endswith(f".{role}") for path in found)
    assert not found & idle


def test_attention_is_not_computed_in_front_of_its_output_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    model, counts = random_model("llama"), list[int]()
    blocks = find_blocks(model)
    plain = nn.functional.scaled_dot_product_attention

    def counting(*arguments: Any, **keywords: Any) -> torch.Tensor:
        counts.append(1)
        return plain(*arguments, **keywords)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", counting)
    walk = Resumable(model, blocks, IDS)
    walk.step_before(blocks[1])
    for role, expected in (("v_proj", 2), ("o_proj", 1)):
        counts.clear()
        walk.run(next(one for one in blocks[1].matrices if one.role == role))
        assert len(counts) == expected, role


def test_an_output_that_is_written_into_is_not_handed_on() -> None:
    """The attention ends in its output projection, and adds to what that returned."""
    model = random_model("llama")
    blocks = find_blocks(model)
    attention = model.model.layers[1].self_attn
    plain = attention.forward

    def adding(*arguments: Any, **keywords: Any) -> Any:
        output, *rest = plain(*arguments, **keywords)
        return output.mul_(0.5), *rest

    attention.forward = adding
    matrix = next(one for one in blocks[1].matrices if one.role == "o_proj")
    walk = Resumable(model, blocks, IDS)
    walk.step_before(blocks[1])
    with overlay(model, changed(model, matrix)):
        assert torch.equal(walk.run(matrix), whole(model, changed(model, matrix)))
    assert attention.forward is adding
