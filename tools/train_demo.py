"""Train the embedded demo model: a small Llama that tells little stories.

Run by a maintainer, never by the product. The corpus is given by path and stays outside the project. The run is
seeded and resumable: interrupt it and start the same command again, and it goes on from the last checkpoint.

    python tools/train_demo.py --corpus stories/train.txt --heldout stories/heldout.txt --run runs/demo
    python tools/train_demo.py ... --processes 2        # two single-threaded processes, gradients averaged each step

Schedule: linear warm-up, flat, then a cosine to 2 % of the peak, because a learning rate that has come to its end is
part of what makes a model sensitive to quantization (an under-trained one hardly notices lost bits). When the token
budget is used up the run folder holds a Hugging Face model folder, `final/`, that `tools/make_demo.py` turns into
`data/demo/`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOS, EOS = "<s>", "</s>"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="training text, stories separated by an empty line")
    parser.add_argument("--heldout", type=Path, required=True, help="text of the same kind that is not in the corpus")
    parser.add_argument("--run", type=Path, required=True, help="folder for tokens, checkpoints, log and the result")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--mlp", type=int, default=384)
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--context", type=int, default=512, help="positions the model is declared for")
    parser.add_argument("--window", type=int, default=256, help="tokens of one training sequence")
    parser.add_argument("--batch", type=int, default=8, help="sequences a step, over all processes")
    parser.add_argument("--tokens", type=float, default=95e6, help="training tokens in all")
    parser.add_argument("--peak-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop (resumable) after this long")
    return parser.parse_args()


def train_tokenizer(corpus: str, vocab: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with BOS in front of every text, as the model sees each story begin."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[BOS, EOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    # 8 MB are plenty for a vocabulary of a thousand, and keep the run reproducible in seconds
    tokenizer.train_from_iterator(corpus[:8_000_000].split("\n\n"), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS)


def encode_stories(tokenizer: PreTrainedTokenizerFast, text: str) -> np.ndarray:
    """One token stream: BOS, story, EOS, BOS, story, EOS, ..."""
    stories = [story.strip() for story in text.split("\n\n") if story.strip()]
    encoded = tokenizer.backend_tokenizer.encode_batch(stories)
    eos = tokenizer.eos_token_id
    return np.concatenate([np.array([*one.ids, eos], dtype=np.uint16) for one in encoded])


def prepare(args: argparse.Namespace) -> None:
    """Tokenizer and token files, once a run folder."""
    folder = args.run / "tokens"
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    corpus = args.corpus.read_text(encoding="utf-8")
    tokenizer = train_tokenizer(corpus, args.vocab)
    tokenizer.save_pretrained(folder / "tokenizer")
    np.save(folder / "train.npy", encode_stories(tokenizer, corpus))
    np.save(folder / "heldout.npy", encode_stories(tokenizer, args.heldout.read_text(encoding="utf-8")))
    (folder / "corpus.json").write_text(
        json.dumps({"corpus_sha256": hashlib.sha256(corpus.encode()).hexdigest(), "corpus_bytes": len(corpus.encode())})
    )
    (folder / "done").touch()


def build_model(args: argparse.Namespace) -> LlamaForCausalLM:
    torch.manual_seed(args.seed)
    config = LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=args.mlp,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        max_position_embeddings=args.context,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=0,
        eos_token_id=1,
        use_cache=False,
        initializer_range=0.04,
    )
    return LlamaForCausalLM(config)


def learning_rate(done: float, args: argparse.Namespace) -> float:
    """Warm-up over 0.4 % of the tokens, flat to 40 %, cosine to 2 % of the peak."""
    share = done / args.tokens
    if share < 0.004:
        return args.peak_rate * max(share / 0.004, 0.01)
    if share < 0.4:
        return args.peak_rate
    return args.peak_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (share - 0.4) / 0.6))))


def batch_at(tokens: torch.Tensor, step: int, args: argparse.Namespace, rank: int) -> torch.Tensor:
    """The sequences of one step, a pure function of seed, step and rank, so that a resumed run sees what it would have."""
    generator = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
    starts = torch.randint(0, len(tokens) - args.window - 1, (args.batch,), generator=generator)
    share = starts.chunk(args.processes)[rank]
    return torch.stack([tokens[start : start + args.window + 1] for start in share.tolist()])


def average_gradients(model: torch.nn.Module, processes: int) -> None:
    if processes == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= processes
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def heldout_loss(model: torch.nn.Module, tokens: torch.Tensor, args: argparse.Namespace, windows: int = 64) -> float:
    spans = tokens[: windows * (args.window + 1)].view(windows, -1).to(args.device)
    total = sum(sequence_loss(model, span, args).item() for span in spans.split(16))
    return total / len(spans.split(16))


def sequence_loss(model: torch.nn.Module, batch: torch.Tensor, args: argparse.Namespace) -> torch.Tensor:
    with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.precision == "bf16"):
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def save_checkpoint(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    partial = path.with_suffix(".partial")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, partial)
    os.replace(partial, path)


def make_optimizer(model: torch.nn.Module, args: argparse.Namespace) -> torch.optim.Optimizer:
    """AdamW that decays matrices and leaves the norms' vectors alone."""
    decayed = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.peak_rate, betas=(0.9, 0.95), fused=True)


def resume(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the last checkpoint, if there is one; returns the steps that were done."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def join_processes(rank: int, args: argparse.Namespace) -> None:
    torch.set_num_threads(1 if args.device == "cpu" else 4)
    if args.processes > 1:
        rendezvous = (args.run / "rendezvous").resolve()
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=args.processes)


def time_is_up(started: float, step: int, args: argparse.Namespace) -> bool:
    """Whether `--minutes` are over; rank 0 decides for all, so that every process leaves at the same step."""
    if step % 20 != 0 or not math.isfinite(args.minutes):
        return False
    late = torch.tensor([float(time.time() - started > args.minutes * 60)])
    if args.processes > 1:
        dist.broadcast(late, 0)
    return bool(late.item())


class Log:
    """Lines of loss and speed, appended to `log.csv` of the run and printed."""

    HEADER = ("step", "tokens", "train_loss", "heldout_loss", "learning_rate", "tokens_per_second")

    def __init__(self, path: Path, step: int, tokens_a_step: int) -> None:
        self.path, self.step, self.tokens_a_step, self.time = path, step, tokens_a_step, time.time()

    def write(self, step: int, loss: float, heldout: float, rate: float) -> None:
        speed = (step - self.step) * self.tokens_a_step / (time.time() - self.time)
        row = [step, step * self.tokens_a_step, f"{loss:.4f}", f"{heldout:.4f}", f"{rate:.6f}", f"{speed:.0f}"]
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows([self.HEADER, row] if new else [row])
        print(*row, flush=True)
        self.step, self.time = step, time.time()


def finish(model: LlamaForCausalLM, args: argparse.Namespace) -> None:
    """Write the result as a Hugging Face model folder."""
    model.config.use_cache = True
    model.save_pretrained(args.run / "final")
    PreTrainedTokenizerFast.from_pretrained(args.run / "tokens" / "tokenizer").save_pretrained(args.run / "final")
    (args.run / "arguments.json").write_text(json.dumps({k: str(v) for k, v in vars(args).items()}, indent=1))
    print("finished", args.run / "final", flush=True)


def train(rank: int, args: argparse.Namespace) -> None:
    """One process of the run; rank 0 writes the log, the checkpoints and the result."""
    join_processes(rank, args)
    tokens, heldout = (
        torch.from_numpy(np.load(args.run / "tokens" / f"{name}.npy").astype(np.int64)) for name in ("train", "heldout")
    )
    model = build_model(args).to(args.device)
    optimizer, checkpoint = make_optimizer(model, args), args.run / "checkpoint.pt"
    step = resume(checkpoint, model, optimizer)
    tokens_a_step = args.batch * args.window
    log, started, last_save = Log(args.run / "log.csv", step, tokens_a_step), time.time(), time.time()

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        return sequence_loss(model, batch, args)

    loss_of_step = loss_of if args.no_compile else torch.compile(loss_of)
    stop = False
    while not stop and step * tokens_a_step < args.tokens:
        rate = learning_rate(step * tokens_a_step, args)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of_step(batch_at(tokens, step, args, rank).to(args.device))
        loss.backward()
        average_gradients(model, args.processes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        stop = time_is_up(started, step, args) or step * tokens_a_step >= args.tokens
        if rank == 0 and (step % 1000 == 0 or stop):
            log.write(step, loss.item(), heldout_loss(model, heldout, args), rate)
        if rank == 0 and (stop or time.time() - last_save > 120):
            save_checkpoint(checkpoint, model, optimizer, step)
            last_save = time.time()
    if rank == 0 and step * tokens_a_step >= args.tokens:
        finish(model, args)


def main() -> None:
    args = parse_arguments()
    args.run.mkdir(parents=True, exist_ok=True)
    prepare(args)
    (args.run / "rendezvous").unlink(missing_ok=True)
    # a step allocates and frees the same few hundred megabytes: without these glibc returns them to the system each time
    os.environ.update(MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_="4000000000", MALLOC_TOP_PAD_="500000000")
    mp.spawn(train, args=(args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
