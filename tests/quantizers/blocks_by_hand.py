"""Block quantizers driven by hand: a walk, a task for each block, and small models of several families."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from workbench.model.block_task import BlockTask
from workbench.model.load import LoadedModel
from workbench.model.matrices import read_weight
from workbench.model.texts import Windows
from workbench.model.walk import BlockWalk
from workbench.progress import Steps, run
from workbench.quantizers.weight import QuantizedWeight

PLAIN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
GATED = PLAIN | {"intermediate_size": 48}
FAMILIES = {
    "llama": ("llama", GATED | {"num_key_value_heads": 4}),
    "llama, grouped queries": ("llama", GATED | {"num_key_value_heads": 2}),
    "gemma": ("gemma", GATED | {"num_key_value_heads": 4, "head_dim": 8}),
    "phi3": ("phi3", GATED | {"num_key_value_heads": 4, "pad_token_id": 0}),
    "falcon": ("falcon", PLAIN),
    "opt": ("opt", PLAIN | {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "opt, norms behind": ("opt", PLAIN | {"ffn_dim": 48, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
}
Method = Callable[[BlockTask], Steps[dict[str, QuantizedWeight]]]


def build(family: str) -> PreTrainedModel:
    """A model whose norms and biases are not the ones and zeros of a fresh one."""
    model_type, settings = FAMILIES[family]
    spread = {"initializer_range": 0.2, "init_std": 0.2, "bos_token_id": 1, "eos_token_id": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(model_type, vocab_size=96, **spread | settings)
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def loaded(model: PreTrainedModel, like: LoadedModel) -> LoadedModel:
    """A model as `load` would return it; the rest is borrowed."""
    return LoadedModel(model, like.tokenizer, like.identity, 64, None)


def numbers(vocabulary: int, windows: int = 6, window: int = 24) -> Windows:
    ids = torch.randint(3, vocabulary, (windows, window), generator=torch.Generator().manual_seed(1))
    return Windows(ids, "numbers", "", "", window, ids.numel())


def tasks(model: LoadedModel, windows: Windows, held: list[dict[str, QuantizedWeight]]) -> Iterator[BlockTask]:
    """A task for each block; what the caller has put into `held` by then is what the next block follows."""
    walk = BlockWalk(model, windows)
    run(walk.open())
    for place, block in enumerate(walk.blocks):
        weights = {matrix.name: read_weight(model.model, matrix) for matrix in block.matrices}
        yield BlockTask(walk, block, block.matrices, weights)
        done = held[place] if len(held) > place else {}
        run(walk.advance({name: weight.dequantize() for name, weight in done.items()}))


def first_task(model: LoadedModel, windows: Windows) -> BlockTask:
    return next(tasks(model, windows, []))


def quantize(model: LoadedModel, windows: Windows, method: Method) -> dict[str, QuantizedWeight]:
    """All blocks, one after the other."""
    held: list[dict[str, QuantizedWeight]] = []
    for task in tasks(model, windows, held):
        held.append(run(method(task)))
    return {name: weight for part in held for name, weight in part.items()}
