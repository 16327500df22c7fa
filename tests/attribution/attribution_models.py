"""Small random models of six families, one word-level tokenizer for all, and models whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.registry import attribution

VOCAB = 96
IDS = torch.tensor([[1, 17, 33, 90, 8, 64, 12, 45]])
PROMPT = "w17 w33 w90 w8 w64 w12 w45"
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = SHAPE | {"intermediate_size": 64, "num_key_value_heads": 2}
FAMILIES = {
    "llama": lambda: LlamaConfig(**GROUPED),
    "qwen2": lambda: Qwen2Config(**GROUPED),
    "gemma": lambda: GemmaConfig(**GROUPED, head_dim=8),
    "gpt2": lambda: GPT2Config(**SHAPE),
    "opt": lambda: OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=32, init_std=0.15, activation_function="gelu"),
    "gpt_neox": lambda: GPTNeoXConfig(**SHAPE, intermediate_size=64),
}


def words(**special: str) -> PreTrainedTokenizerFast:
    """A tokenizer with one token a word, w4 ... w95, that puts <s> in front."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3} | {f"w{i}": i for i in range(4, VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    usual = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(special or usual))


def letters() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer as GPT-2's, with one token a byte and one merge: ' w'."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": 0} | {letter: i + 1 for i, letter in enumerate(alphabet)}
    vocabulary["Ġw"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[("Ġ", "w")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def build(family: str, dtype: torch.dtype = torch.float32, implementation: str = "sdpa") -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family](), attn_implementation=implementation)
    return model.eval().to(dtype)


def adapted(family: str, dtype: torch.dtype = torch.float32) -> Adapter:
    return Adapter(build(family, dtype), words())


class ToyConfig(PreTrainedConfig):
    model_type = "toy"

    def __init__(self, power: int = 1, **rest: Any) -> None:
        self.power = power
        self.num_hidden_layers = 2
        super().__init__(**rest)


class Toy(PreTrainedModel):
    """Logits at position t: (sum over tokens up to t of their embeddings) ** power, times a matrix."""

    config_class = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.embedding = torch.nn.Embedding(VOCAB, 6)
        self.head = torch.nn.Linear(6, VOCAB, bias=False)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embedding

    def forward(self, input_ids: torch.Tensor | None = None, inputs_embeds: torch.Tensor | None = None) -> Any:
        embeds = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        return CausalLMOutput(logits=self.head(embeds.cumsum(1) ** self.config.power))


LOGIT = Target("logit", (40,), ("w40",))
OTHER = Target("logit", (70,), ("w70",))
CONTRAST = Target("contrast", (40, 70), ("w40", "w70"))


def explain(name: str, adapter: Adapter, target: Target = LOGIT, **options: object) -> Attribution:
    """Run a method on the usual prompt."""
    return attribution.get(name)(adapter, IDS, target, **options)


def quick(name: str) -> dict[str, int]:
    """Options that make a method cheap, where its numbers need not be good."""
    few = {"nodes": 4, "max_nodes": 4, "baselines": 2, "steps": 6, "samples": 8, "pairs": 2}
    known = {option.name for option in attribution.get(name).options}
    return {option: value for option, value in few.items() if option in known}


def objective(adapter: Adapter, target: Target = LOGIT) -> Callable[[torch.Tensor], torch.Tensor]:
    """The target as a plain function of embeddings, through the model itself."""
    return lambda embeds: target.value(adapter.model(inputs_embeds=embeds, use_cache=False).logits[:, -1])
