"""Linearised gradient x input: the sum is F itself, with and without biases, and against a network written out."""

from __future__ import annotations

import pytest
import torch
from attribution_models import CONTRAST, IDS, LOGIT, adapted, explain

from workbench.attribution.adapter import Adapter
from workbench.attribution.frozen import Frozen, by_position
from workbench.attribution.patches import ruled
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError


def with_biases(family: str, dtype: torch.dtype = torch.float64) -> Adapter:
    """A model whose biases are not zero, as they are at the start of training."""
    adapter = adapted(family, dtype)
    torch.manual_seed(1)
    for name, parameter in adapter.model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.3)
    return adapter


@pytest.mark.parametrize("target", [LOGIT, CONTRAST], ids=lambda target: target.kind)
@pytest.mark.parametrize("gate", ["detach", "split"])
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_scores_add_up_to_the_target_without_biases(family: str, gate: str, target: Target) -> None:
    result = explain("linearised", adapted(family), target, gate=gate)
    assert float(result.scores.sum()) == pytest.approx(result.value, abs=1e-5 * max(abs(result.value), 0.1))
    assert result.biases is None
    assert result.notes == ()


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "gpt2", "opt", "gpt_neox"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_scores_and_biases_add_up_in_double_precision(family: str, implementation: str) -> None:
    adapter = with_biases(family)
    adapter.model.set_attn_implementation(implementation)
    result = explain("linearised", adapter, CONTRAST)
    assert result.relative_gap is not None
    assert result.relative_gap < 1e-12
    assert (result.biases is None) == (family in ("llama", "gemma"))
    if result.biases is not None:
        assert float(result.scores.sum() + result.biases.sum()) == pytest.approx(result.value, rel=1e-10)
        assert abs(float(result.biases.sum())) > 1e-3
        assert f"{float(result.biases.sum()):.4g} comes from biases" in result.notes[0]


def test_two_orders_of_attention_give_the_same_scores() -> None:
    adapter = with_biases("gpt2")
    fused = explain("linearised", adapter)
    adapter.model.set_attn_implementation("eager")
    plain = explain("linearised", adapter)
    torch.testing.assert_close(fused.scores, plain.scores, atol=1e-10, rtol=1e-8)
    torch.testing.assert_close(fused.biases, plain.biases, atol=1e-10, rtol=1e-8)


def test_values_stay_as_they_were_to_the_digit(any_family: Adapter) -> None:
    assert explain("linearised", any_family).value == float(any_family.predict(IDS)[40])


def llama_by_hand(adapter: Adapter) -> torch.Tensor:
    """x . dF/dx of a Llama in eager attention whose frozen parts are detached in the text of the network."""
    body, config = adapter.model.model, adapter.model.config

    def norm(module: torch.nn.Module, given: torch.Tensor) -> torch.Tensor:
        scale = (given.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).rsqrt().detach()
        return module.weight * given * scale

    def heads(given: torch.Tensor, count: int) -> torch.Tensor:
        split = given.view(1, 8, count, 8).transpose(1, 2)
        return split.repeat_interleave(config.num_attention_heads // count, 1)

    def turn(given: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(8)[:, None] / 10000 ** (torch.arange(4) / 4)[None]
        first, second = given.chunk(2, -1)
        cos, sin = angles.cos().double(), angles.sin().double()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    embeds = adapter.embed(IDS).requires_grad_()
    state = embeds
    for layer in body.layers:
        normed, part = norm(layer.input_layernorm, state), layer.self_attn
        query, key = turn(heads(part.q_proj(normed), 4)), turn(heads(part.k_proj(normed), 2))
        scores = (query @ key.transpose(-1, -2) / 8**0.5).masked_fill(torch.ones(8, 8).triu(1).bool(), -torch.inf)
        mixed = scores.softmax(-1).detach() @ heads(part.v_proj(normed), 2)
        state = state + part.o_proj(mixed.transpose(1, 2).reshape(1, 8, 32))
        normed, part = norm(layer.post_attention_layernorm, state), layer.mlp
        gate = torch.nn.functional.silu(part.gate_proj(normed)).detach()
        state = state + part.down_proj(gate * part.up_proj(normed))
    value = adapter.model.lm_head(norm(body.norm, state))[0, -1, 40]
    (slope,) = torch.autograd.grad(value, embeds)
    return (embeds * slope).sum(-1)[0].detach()


def test_scores_equal_a_network_with_its_frozen_parts_detached_by_hand() -> None:
    adapter = adapted("llama", torch.float64)
    torch.testing.assert_close(explain("linearised", adapter).scores, llama_by_hand(adapter), atol=1e-6, rtol=1e-5)


def test_biases_stand_at_the_position_where_they_enter() -> None:
    """Biases of the last norm and layer act at the last position alone; those below reach it from everywhere."""
    adapter = adapted("gpt2", torch.float64)
    adapter.model.transformer.wpe.weight.data.zero_()
    last = adapter.model.transformer.ln_f
    last.bias.data.normal_(0, 0.3)
    result = explain("linearised", adapter)
    assert result.biases is not None
    expected = float(adapter.model.lm_head.weight[40].detach() @ last.bias.detach())
    assert result.biases.tolist() == pytest.approx([0.0] * 7 + [expected], abs=1e-12)


def test_a_target_that_is_no_sum_of_logits_is_called_a_ranking(llama: Adapter) -> None:
    result = explain("linearised", llama, Target("logprob", (40,), ("w40",)))
    assert result.completeness_gap is None
    assert "take them as a ranking" in result.notes[0]


def test_the_options_share_gated_products_otherwise(llama: Adapter) -> None:
    detached, split = (explain("linearised", llama, gate=gate).scores for gate in ("detach", "split"))
    assert float((detached - split).abs().max()) > 1e-3


def test_a_product_that_is_split_gives_each_factor_half() -> None:
    """For a product of two linear functions, half of each factor is the plain product rule halved."""
    torch.manual_seed(0)
    given = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    first, second = torch.randn(2, 4, dtype=torch.float64)
    with ruled(torch.nn.Identity(), Frozen("test")):
        value = ((given * first).sum() * (given * second).sum()).reshape(1).sum()
    (slope,) = torch.autograd.grad(value, given)
    plain = first * (given * second).sum() + second * (given * first).sum()
    torch.testing.assert_close(slope, (plain / 2).expand_as(slope))
    assert float((given * slope).sum().detach()) == pytest.approx(float(value.detach()))


def test_contributions_are_summed_by_position_or_refused() -> None:
    assert by_position(torch.ones(4), 4).tolist() == [1.0] * 4
    assert by_position(torch.ones(1, 3, 4), 4).tolist() == [3.0] * 4
    assert by_position(torch.ones(1, 1), 4).tolist() == [0.0, 0.0, 0.0, 1.0]
    with pytest.raises(WorkbenchError, match=r"\[5, 2\], which has no axis for its 4 tokens"):
        by_position(torch.ones(5, 2), 4)


def test_half_precision_says_by_how_much_the_sum_is_missed() -> None:
    result = explain("linearised", adapted("llama", torch.bfloat16))
    assert result.relative_gap is not None
    assert result.relative_gap > 1e-3
    assert f"by {result.relative_gap:.2%}, through half precision" in result.notes[-1]
