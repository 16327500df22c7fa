"""Attention taken apart by its values: what the summands add up to, and what two methods make of them."""

from __future__ import annotations

import gc

import pytest
import torch
from attribution_models import FAMILIES, GROUPED, IDS, VOCAB, adapted, explain, words
from transformers import LlamaConfig, Olmo2Config, Phi3Config, PreTrainedConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import AttentionLayer, watch_attention
from workbench.attribution.norm_attention import sent
from workbench.attribution.value_paths import ValuePaths, read_paths
from workbench.attribution.value_zeroing import turned
from workbench.errors import WorkbenchError

ATTENTION = {"llama": "model.layers.{}.self_attn", "gpt2": "transformer.h.{}.attn"}
VALUES = {"llama": "v_proj", "gpt2": "c_attn"}
BLOCK = {"llama": "model.layers.{}", "gpt2": "transformer.h.{}"}


def random_model(config: PreTrainedConfig) -> Adapter:
    torch.manual_seed(0)
    return Adapter(AutoModelForCausalLM.from_config(config).eval(), words())


def layers_of(adapter: Adapter, ids: torch.Tensor = IDS) -> list[tuple[ValuePaths, AttentionLayer]]:
    found: list[tuple[ValuePaths, AttentionLayer]] = []
    watch_attention(adapter, ids, lambda layer: found.append((read_paths("test", layer), layer)))
    return found


def family_of(adapter: Adapter) -> str:
    return adapter.model.config.model_type


def run_with(adapter: Adapter, layer: int, zeroed: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """(what the block is given, what attention adds), by the names of the family; the values of one token zeroed."""
    family, seen = family_of(adapter), {}
    module = adapter.model.get_submodule(ATTENTION[family].format(layer))
    block = adapter.model.get_submodule(BLOCK[family].format(layer))

    def zero(_: torch.nn.Module, arguments: object, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        if zeroed is not None:
            output[:, zeroed, -output.shape[-1] // (1 if family == "llama" else 3) :] = 0
        return output

    handles = [
        module.get_submodule(VALUES[family]).register_forward_hook(zero),
        module.register_forward_hook(lambda m, a, output: seen.update(added=output[0][0])),
        block.register_forward_pre_hook(lambda m, arguments: seen.update(hidden=arguments[0][0])),
    ]
    with torch.no_grad():
        adapter.model(IDS)
    for handle in handles:
        handle.remove()
    return seen["hidden"].double(), seen["added"].double()


@pytest.mark.parametrize("family", [*FAMILIES, "phi3"])
def test_the_summands_add_up_to_what_attention_gives(family: str) -> None:
    config = Phi3Config(**GROUPED | {"pad_token_id": 0}) if family == "phi3" else FAMILIES[family]()
    for paths, layer in layers_of(random_model(config)):
        projection = layer.calls[-1]
        bias = getattr(projection.module, "bias", None)
        added = projection.gave[0].double() - (0 if bias is None else bias.double())
        assert added.abs().max() > 0.01
        torch.testing.assert_close(paths.output(), added, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_heads_share_the_values_of_their_neighbours(kv_heads: int) -> None:
    adapter = random_model(LlamaConfig(**GROUPED | {"num_key_value_heads": kv_heads}))
    for index, (paths, _) in enumerate(layers_of(adapter)):
        _, added = run_with(adapter, index)
        torch.testing.assert_close(paths.output(), added, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [8, 130])
def test_norms_and_products_are_those_of_the_dense_vectors(either: Adapter, length: int) -> None:
    length = min(length, adapter_limit(either))
    ids = torch.arange(length)[None] % VOCAB
    for paths, _ in layers_of(either, ids):
        dense = torch.einsum("hts,sho->tso", paths.weights.double(), paths.vectors(slice(None)))
        torch.testing.assert_close(paths.squared_norms().sqrt(), dense.norm(dim=-1), atol=1e-6, rtol=1e-4)
        others = torch.randn(length, dense.shape[-1], dtype=torch.float64)
        torch.testing.assert_close(paths.products(others), torch.einsum("tso,to->ts", dense, others))
        torch.testing.assert_close(paths.own(), dense.diagonal(dim1=0, dim2=1).T)


def adapter_limit(adapter: Adapter) -> int:
    """Learned positions end; rotary ones do not."""
    return 64 if family_of(adapter) == "gpt2" else 999


@pytest.mark.parametrize("residual", [True, False])
def test_scores_are_the_product_of_row_normalised_lengths(either: Adapter, residual: bool) -> None:
    product = torch.eye(8, dtype=torch.float64)
    for index, (paths, _) in enumerate(layers_of(either)):
        hidden, _ = run_with(either, index)
        lengths = torch.zeros(8, 8, dtype=torch.float64)
        vectors = paths.vectors(slice(None))
        for t in range(8):
            for s in range(t + 1):
                carried = sum(float(paths.weights[h, t, s]) * vectors[s, h] for h in range(4))
                lengths[t, s] = (carried + (hidden[t] if residual and s == t else 0)).norm()
        rows = lengths / lengths.sum(-1, keepdim=True)
        alone = explain("norm_attention", either, residual=residual, layer=index).scores
        torch.testing.assert_close(alone, rows[-1], atol=1e-6, rtol=0)
        product = rows @ product
    scores = explain("norm_attention", either, residual=residual).scores
    torch.testing.assert_close(scores, product[-1], atol=1e-6, rtol=0)
    assert float(scores.sum()) == pytest.approx(1.0, abs=1e-9)


def test_matrices_are_triangular(any_family: Adapter) -> None:
    for paths, layer in layers_of(any_family):
        for matrix in (sent(paths, layer.hidden[0]), sent(paths, None), turned(paths, layer.hidden[0])):
            assert bool((matrix >= 0).all())
            assert matrix.triu(1).abs().max() == 0
            assert matrix[-1].max() > 1e-4


def test_value_zeroing_turns_states_as_running_with_zeroed_values_does(either: Adapter) -> None:
    product = torch.eye(8, dtype=torch.float64)
    for index, (paths, layer) in enumerate(layers_of(either)):
        hidden, added = run_with(either, index)
        bias = getattr(layer.calls[-1].module, "bias", None)
        shift = 0 if bias is None else bias.detach().double()  # the projection's bias comes from no token
        whole, found = hidden + added - shift, turned(paths, layer.hidden[0])
        for token in range(8):
            left = hidden + run_with(either, index, zeroed=token)[1] - shift
            expected = 1 - torch.cosine_similarity(whole, left, dim=-1)
            torch.testing.assert_close(found[:, token], expected, atol=1e-6, rtol=0)
        rows = found / found.sum(-1, keepdim=True)
        alone = explain("value_zeroing", either, layer=index).scores
        torch.testing.assert_close(alone, rows[-1], atol=1e-9, rtol=0)
        product = (0.3 * torch.eye(8, dtype=torch.float64) + 0.7 * rows) @ product
    torch.testing.assert_close(explain("value_zeroing", either, residual=0.3).scores, product[-1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["norm_attention", "value_zeroing"])
def test_what_cannot_be_read_is_refused_in_one_sentence(name: str) -> None:
    behind = random_model(Olmo2Config(**GROUPED))
    with pytest.raises(WorkbenchError, match="a Olmo2RMSNorm changes what attention adds before it is added"):
        explain(name, behind)
    hidden = adapted("llama")
    for block in hidden.model.model.layers:
        block.self_attn.v_proj = torch.nn.Sequential(block.self_attn.v_proj)  # a matrix out of sight
    with pytest.raises(WorkbenchError, match=r"cannot read the values of layer 0 \(LlamaDecoderLayer\)"):
        explain(name, hidden)
    for adapter in (behind, hidden):
        assert explain("grad_attention", adapter).scores.shape == (8,)


@pytest.mark.parametrize("name", ["norm_attention", "value_zeroing"])
def test_a_layer_that_is_not_there_is_refused(llama: Adapter, name: str) -> None:
    with pytest.raises(WorkbenchError, match=f"option 'layer' of '{name}' has value 2; the layers are 0 to 1"):
        explain(name, llama, layer=2)


def test_maps_are_dropped_layer_by_layer() -> None:
    deep = random_model(LlamaConfig(**GROUPED | {"num_hidden_layers": 6, "max_position_embeddings": 256}))
    length, alive = 256, []
    kept = torch.zeros(length, length)

    def visit(layer: AttentionLayer) -> None:
        nonlocal kept
        kept = kept + layer.probabilities.mean(0)
        if layer.index in (1, 5):
            square = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.shape[-2:] == kept.shape]
            held = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in square}
            alive.append(sum(held.values()) / kept.nbytes)

    watch_attention(deep, (torch.arange(length) % VOCAB)[None], visit)
    early, late = alive
    assert 4 <= late < 3 * 6  # the four heads of the running layer, counted in maps, and less than three a layer
    assert late <= early  # nothing is added by a further layer
