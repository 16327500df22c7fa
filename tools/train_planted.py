"""Train the model of the planted trigger: one word of eleven decides the answer, so the right map is known.

python tools/train_planted.py            # writes tests/data/planted_trigger, in about 15 s on one core

A prompt is `<s>`, ten words and `?`. Nine words are fillers that say nothing; one, at a random place, is a trigger, and
the next token is the answer that belongs to it. The loss falls when a small Llama finds the trigger by attention.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "data" / "planted_trigger"
UNKNOWN, BEGIN, QUERY = range(3)
TRIGGERS, FILLERS, ANSWERS = range(3, 11), range(11, 39), range(39, 47)
WORDS = 10
ENOUGH = 0.003
"""Loss, nats, at which training ends."""


def draw(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts [count, 12], their answers [count] and the positions of their triggers [count]."""
    words = torch.randint(FILLERS.start, FILLERS.stop, (count, WORDS), generator=generator)
    place = torch.randint(0, WORDS, (count,), generator=generator)
    kind = torch.randint(0, len(TRIGGERS), (count,), generator=generator)
    words.scatter_(1, place[:, None], (TRIGGERS.start + kind)[:, None])
    ends = [torch.full((count, 1), token) for token in (BEGIN, QUERY)]
    return torch.cat([ends[0], words, ends[1]], 1), ANSWERS.start + kind, place + 1


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; `?` is the end mark, so that methods hold it fixed and put it where a word is taken away."""
    names = ["<unk>", "<s>", "?", *(f"trigger{i}" for i in range(len(TRIGGERS)))]
    names += [*(f"filler{i}" for i in range(len(FILLERS))), *(f"answer{i}" for i in range(len(ANSWERS)))]
    words = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A ?", special_tokens=[("<s>", BEGIN), ("?", QUERY)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="?", unk_token="<unk>")


def train(steps: int = 2000) -> LlamaForCausalLM:
    """The model, trained until its loss is small."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=ANSWERS.stop,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=BEGIN,
        eos_token_id=QUERY,
    )
    model, generator = LlamaForCausalLM(config), torch.Generator().manual_seed(0)
    descent = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        prompts, answers, _ = draw(64, generator)
        loss = torch.nn.functional.cross_entropy(model(prompts, use_cache=False).logits[:, -1], answers)
        descent.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        descent.step()
        if step % 25 == 0:
            print(f"step {step}: {loss.item():.4f} nats", flush=True)
        if loss.item() < ENOUGH:
            break
    return model.eval()


def accuracy(model: LlamaForCausalLM, count: int = 1000, seed: int = 1) -> float:
    """The share of fresh prompts that are answered right."""
    prompts, answers, _ = draw(count, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return float((model(prompts).logits[:, -1].argmax(-1) == answers).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    model = train()
    print(f"accuracy {accuracy(model):.3f} on fresh prompts")
    model.half().save_pretrained(folder)
    tokenizer().save_pretrained(folder)


if __name__ == "__main__":
    main()
