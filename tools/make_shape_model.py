"""Write a model with random weights and the shapes of a larger one, for measuring memory and time without a download.

    python tools/make_shape_model.py FOLDER [--shape llama-1b|wide-blocks|tiny] [--seed 0] [--shard-bytes 1000000000]

The weights of each tensor are drawn by a seed of their own, so that a folder does not depend on how it is cut into
shards; a tensor is in memory at a time. Its tokenizer has a token a byte: ids far below the vocabulary's end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

SHAPES = {
    # those of meta-llama/Llama-3.2-1B, config.json
    "llama-1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
    },
    # 137 million weights: what a block takes is more than what Python's own memory varies by
    "wide-blocks": {
        "vocab_size": 8192,
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 10,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 64,
        "max_position_embeddings": 2048,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
    },
}
SPREAD = 0.02
SPECIAL = ("<s>", "</s>")


def make(folder: Path, shape: str, seed: int, shard_bytes: int) -> None:
    """Write config.json, the tokenizer and bf16 weights with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=None)
    config.architectures, config.dtype = ["LlamaForCausalLM"], "bfloat16"
    config.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    shards = _shards(config, shard_bytes)
    held: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write(folder / file, dict(names), seed)
        held |= dict.fromkeys(names, file)
    total = 2 * sum(_count(size) for names in shards for size in names.values())
    index = {"metadata": {"total_size": total}, "weight_map": held}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _parameters(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    wide, deep = config.hidden_size, config.intermediate_size
    head = wide // config.num_attention_heads
    keys, queries = (config.num_key_value_heads or 0) * head, wide
    yield "model.embed_tokens.weight", (config.vocab_size, wide)
    for layer in range(config.num_hidden_layers):
        own = f"model.layers.{layer}"
        yield f"{own}.self_attn.q_proj.weight", (queries, wide)
        yield f"{own}.self_attn.k_proj.weight", (keys, wide)
        yield f"{own}.self_attn.v_proj.weight", (keys, wide)
        yield f"{own}.self_attn.o_proj.weight", (wide, queries)
        yield f"{own}.mlp.gate_proj.weight", (deep, wide)
        yield f"{own}.mlp.up_proj.weight", (deep, wide)
        yield f"{own}.mlp.down_proj.weight", (wide, deep)
        yield f"{own}.input_layernorm.weight", (wide,)
        yield f"{own}.post_attention_layernorm.weight", (wide,)
    yield "model.norm.weight", (wide,)


def _shards(config: LlamaConfig, limit: int) -> list[dict[str, tuple[int, ...]]]:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in _parameters(config):
        if shards[-1] and size + 2 * _count(shape) > limit:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += 2 * _count(shape)
    return shards


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _write(path: Path, tensors: dict[str, tuple[int, ...]], seed: int) -> None:
    """One shard, written tensor by tensor: the library would want all of them in memory."""
    entries, end = {}, 0
    for name, shape in tensors.items():
        stop = end + 2 * _count(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, stop]}
        end = stop
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    partial = path.with_name(f".partial-{path.name}")
    with partial.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name, shape in tensors.items():
            values: Any = _draw(name, shape, seed).reshape(-1).view(torch.uint8).numpy()
            file.write(values)
    os.replace(partial, path)


def _draw(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Norms near one, everything else normal around zero."""
    own = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "little")
    values = torch.empty(shape).normal_(0.0, SPREAD, generator=torch.Generator().manual_seed(own))
    return (values + 1.0 if len(shape) == 1 else values).to(torch.bfloat16)


def _tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def main() -> None:
    """Read the arguments and write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="llama-1b")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard-bytes", type=int, default=1_000_000_000)
    asked = parser.parse_args()
    if asked.folder.exists() and any(asked.folder.iterdir()):
        sys.exit(f"folder {str(asked.folder)[-80:]!r} is not empty; choose another one")
    make(asked.folder, asked.shape, asked.seed, asked.shard_bytes)


if __name__ == "__main__":
    main()
