"""Small random encoders of three makes, with a tokenizer of words and word pieces, as adapters and as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    DistilBertConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
)
from transformers.models.auto.modeling_auto import AutoModel, AutoModelForSequenceClassification

from workbench.attribution.encoder_adapter import EncoderAdapter
from workbench.attribution.encoder_similarity import SimilarityAdapter

VOCAB = 96
LABELS = {0: "NEGATIVE", 1: "NEUTRAL", 2: "POSITIVE"}
TEXT = "w17 w33 piece w8 w64 w12"
OTHER = "w45 w20 w8"
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "id2label": LABELS,
    "label2id": {name: number for number, name in LABELS.items()},
}
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "id2label": LABELS,
    "label2id": SHAPE["label2id"],
    "pad_token_id": 0,
}
FAMILIES = {
    "bert": lambda: BertConfig(**SHAPE, pad_token_id=0, type_vocab_size=2),
    "roberta": lambda: RobertaConfig(**SHAPE, pad_token_id=1, type_vocab_size=1),
    "distilbert": lambda: DistilBertConfig(**SMALL),
}


def pieces(family: str = "bert") -> PreTrainedTokenizerFast:
    """Words w8 ... w93 and the two pieces of `piece`, framed as each make frames one text and two."""
    roberta = family == "roberta"
    first = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if roberta else ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: place for place, token in enumerate(first)}
    vocabulary |= {f"w{place}": place for place in range(8, 94)} | {"pie": 94, "##ce": 95}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=first[3 if roberta else 1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    start, end = ("<s>", "</s>") if roberta else ("[CLS]", "[SEP]")
    pair = f"{start} $A {end} {end} $B {end}" if roberta else f"{start} $A {end} $B:1 {end}:1"
    special = [(token, vocabulary[token]) for token in (start, end)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=pair, special_tokens=special
    )
    named = {"cls_token": start, "sep_token": end, "mask_token": first[4]}
    named |= {"pad_token": first[1 if roberta else 0], "unk_token": first[3 if roberta else 1]}
    named |= {"bos_token": start, "eos_token": end} if roberta else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def build(family: str, *, bare: bool = False, seed: int = 0) -> PreTrainedModel:
    kind = AutoModel if bare else AutoModelForSequenceClassification
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind.from_config(FAMILIES[family](), attn_implementation="sdpa")
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # fresh biases are zero, which hides what they do
                torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


def classifier(family: str) -> EncoderAdapter:
    return EncoderAdapter(build(family), pieces(family))


def similar(family: str, pooling: Any = "mean", fixed: tuple[str, ...] = (OTHER,)) -> SimilarityAdapter:
    return SimilarityAdapter(build(family, bare=True), pieces(family), fixed, pooling)


def write_encoder(folder: Path, family: str, *, bare: bool = False) -> Path:
    """Save an encoder with its tokenizer to a folder, in Hugging Face format."""
    build(family, bare=bare).save_pretrained(folder)
    pieces(family).save_pretrained(folder)
    return folder
