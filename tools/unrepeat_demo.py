"""Second stage of the embedded model's training: stories that do not go round in circles.

A small model that is read greedily repeats itself ("The ball was very happy. The ball was very happy."), because
likelihood alone never tells it that a repetition is wrong. This stage goes on with likelihood on the corpus and adds, in
every other step, the sequence-level unlikelihood of Welleck et al. 2020 ("Neural text generation with unlikelihood
training"): the model continues openings of the corpus greedily, and every token in a run of `--ngram` tokens that the
text already holds is made less likely. Left out: their token-level objective, which forbids names and "the" as well.
Differs: runs are searched in the opening too. Few and gentle steps do best: after 3000 with twice the weight, stories
were over after two sentences.

Run by a maintainer after `tools/train_demo.py`, whose run folder it reads (tokens, tokenizer, arguments) and whose
`final/` it starts from, or from `--start`. The result is a run folder that `tools/make_demo.py` takes. Seeded.

    python tools/unrepeat_demo.py --base runs/demo --run runs/demo-told
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

FIRST = "first"
"""Folder of a run with the arguments and the log of the stage before this one."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="run folder of tools/train_demo.py")
    parser.add_argument("--start", type=Path, help="model folder to start from; final/ of the base by default")
    parser.add_argument("--run", type=Path, required=True, help="folder for log and result")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=8, help="windows of a likelihood step")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--openings", type=int, default=16, help="openings of an unlikelihood step")
    parser.add_argument("--prefix", type=int, default=16, help="tokens of an opening at most")
    parser.add_argument("--told", type=int, default=140, help="tokens that are told behind it")
    parser.add_argument("--ngram", type=int, default=5, help="tokens of a run that may not come twice")
    parser.add_argument("--every", type=int, default=2, help="one step of unlikelihood in so many")
    parser.add_argument("--weight", type=float, default=1.0, help="of the unlikelihood loss")
    parser.add_argument("--peak-rate", type=float, default=5e-4)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def rate_at(step: int, args: argparse.Namespace) -> float:
    """A warm-up of 2 %, then a cosine to 2 % of the peak."""
    share = step / args.steps
    if share < 0.02:
        return args.peak_rate * max(0.05, share / 0.02)
    return args.peak_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def windows_at(tokens: Tensor, step: int, args: argparse.Namespace) -> Tensor:
    generator = torch.Generator().manual_seed(args.seed * 1_000_003 + 7 * step + 1)
    starts = torch.randint(0, len(tokens) - args.window - 1, (args.batch,), generator=generator)
    return torch.stack([tokens[start : start + args.window + 1] for start in starts.tolist()])


def openings_at(tokens: Tensor, begins: Tensor, step: int, args: argparse.Namespace) -> Tensor:
    """Beginnings of stories, all of one length (so that nothing is padded), which differs from step to step."""
    generator = torch.Generator().manual_seed(args.seed * 1_000_003 + 7 * step + 2)
    length = int(torch.randint(3, args.prefix + 1, (1,), generator=generator))
    chosen = begins[torch.randint(0, len(begins) - 1, (args.openings,), generator=generator)]
    return torch.stack([tokens[start : start + length] for start in chosen.tolist()])


@torch.no_grad()
def tell(model: LlamaForCausalLM, openings: Tensor, args: argparse.Namespace) -> Tensor:
    """Greedy continuations; what comes behind an end of text is cut by `repeated`."""
    end = int(model.config.eos_token_id)
    return model.generate(
        openings,
        attention_mask=torch.ones_like(openings),
        do_sample=False,
        max_new_tokens=args.told,
        use_cache=True,
        pad_token_id=end,
    )


def repeated(ids: list[int], told_from: int, ngram: int, end: int) -> list[bool]:
    """Which tokens lie in a run of `ngram` tokens that stands earlier in the text, counted behind the opening alone."""
    stop = ids.index(end) if end in ids else len(ids)
    seen: set[tuple[int, ...]] = set()
    marked = [False] * len(ids)
    for last in range(ngram, stop + 1):
        run = tuple(ids[last - ngram : last])
        if run in seen:
            for place in range(max(told_from, last - ngram), last):
                marked[place] = True
        seen.add(run)
    return marked


def unlikelihood(
    model: LlamaForCausalLM, text: Tensor, told_from: int, args: argparse.Namespace
) -> tuple[Tensor, float]:
    """Mean of -log(1 - p) over the repeated tokens, and their share of what was told."""
    end = int(model.config.eos_token_id)
    marked = torch.tensor([repeated(row, told_from, args.ngram, end) for row in text.tolist()])[:, 1:]
    logits = model(input_ids=text[:, :-1], use_cache=False).logits.float()
    chances = logits.softmax(-1).gather(-1, text[:, 1:, None]).squeeze(-1)
    losses = -torch.log((1 - chances).clamp(min=1e-6)) * marked
    share = float(marked.sum()) / (len(text) * args.told)
    return losses.sum() / (len(text) * args.told), share


def likelihood(model: LlamaForCausalLM, batch: Tensor) -> Tensor:
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def heldout_loss(model: LlamaForCausalLM, tokens: Tensor, window: int, count: int = 64) -> float:
    spans = tokens[: count * (window + 1)].view(count, -1)
    return sum(float(likelihood(model, span)) for span in spans.split(16)) / len(spans.split(16))


def note(path: Path, row: dict[str, str]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)


def train(model: LlamaForCausalLM, args: argparse.Namespace) -> None:
    folder = args.base / "tokens"
    tokens, heldout = (
        torch.from_numpy(np.load(folder / f"{one}.npy").astype(np.int64)) for one in ("train", "heldout")
    )
    begins = (tokens == int(model.config.bos_token_id)).nonzero().flatten()
    decayed, plain = ([p for p in model.parameters() if (p.ndim == 2) == big] for big in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=args.peak_rate,
        betas=(0.9, 0.95),
    )
    share, started = float("nan"), time.time()
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, args)
        loss = likelihood(model, windows_at(tokens, step, args))
        if step % args.every == 0:
            openings = openings_at(tokens, begins, step, args)
            against, share = unlikelihood(model, tell(model, openings, args), openings.shape[1], args)
            loss = loss + args.weight * against
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == args.steps - 1:
            held = heldout_loss(model, heldout, args.window)
            seen = (step + 1) * args.batch * args.window
            row = {"step": step, "tokens": seen, "heldout_loss": f"{held:.4f}", "repeated_share": f"{share:.4f}"}
            note(
                args.run / "log.csv", {k: str(v) for k, v in row.items()} | {"seconds": f"{time.time() - started:.0f}"}
            )


def main() -> None:
    args = parse_arguments()
    args.run.mkdir(parents=True, exist_ok=True)
    (args.run / "log.csv").unlink(missing_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    start = args.start or args.base / "final"
    model = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32)
    train(model, args)
    model.save_pretrained(args.run / "final")
    PreTrainedTokenizerFast.from_pretrained(start).save_pretrained(args.run / "final")
    shutil.copytree(args.base / "tokens", args.run / "tokens", dirs_exist_ok=True)
    (args.run / FIRST).mkdir(exist_ok=True)
    for name in ("arguments.json", "log.csv"):
        shutil.copy(args.base / name, args.run / FIRST / name)
    (args.run / "arguments.json").write_text(json.dumps({k: str(v) for k, v in vars(args).items()}, indent=1))


if __name__ == "__main__":
    main()
