"""Turn a finished training run into the embedded model: weights in bf16, tokenizer, calibration text, card, loss curve.

Run by a maintainer after `tools/train_demo.py`; `data/demo/evaluation.txt` and `data/demo/prompts.json` are written by
hand and stay as they are. The model is accepted only when rounding to nearest (asymmetric, group 64, all block
matrices) raises the loss on the evaluation text by the amounts below; otherwise nothing is written.

    python tools/make_demo.py --run runs/demo
    python tools/make_demo.py --run runs/demo --check-only       # measures a run, writes nothing
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import workbench
from workbench import studies
from workbench.settings import PROJECT
from workbench.studies.context import Context

RISE_AT_LEAST = {4: 0.015, 3: 0.1, 2: 0.6}
RISE_AT_MOST = {8: 0.005}
SAMPLED_STORIES = 96
STORY_TOKENS = 400
FIRST = "first"
"""Folder of a run of `tools/unrepeat_demo.py` with the records of the stage before it."""

OPENINGS = (
    "Once upon a time, there was a little girl named",
    "One day, a boy named Tim went to the park.",
    "Once upon a time, there was a big dog",
    "Lily and Ben were best friends.",
    "The little bird was sad because",
    "Tom had a red ball.",
    "One day, Mia and her mom went to the beach.",
    "There was a small cat who lived",
    "Sam found a shiny key in the garden.",
    '"Can I play with you?" asked',
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--demo", type=Path, default=PROJECT / "data" / "demo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check-only", action="store_true")
    parser.add_argument("--source", type=Path, help="model folder that the corpus was sampled from, to compare with")
    return parser.parse_args()


def export_model(final: Path, folder: Path) -> None:
    """Weights in bf16, tied tensors once; the tokenizer beside them."""
    model = AutoModelForCausalLM.from_pretrained(final, dtype=torch.bfloat16)
    model.config.use_cache = True
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(final).save_pretrained(folder)


def measure() -> dict[str, dict[str, float]]:
    """Loss of the full model and its rise at 8, 4, 3 and 2 bits, on the whole evaluation text."""
    context = Context()
    model = context.model("demo")
    found = {}
    for bits in (8, 4, 3, 2):
        steps = studies.evaluate(
            model,
            scheme={"quantizer": "rtn", "bits": bits, "group_size": 64, "symmetric": False, "options": {}},
            tokens=65536,
            context=context,
        )
        document = workbench.run(steps).document
        found[str(bits)] = {
            "rise": document["delta_loss"],
            "standard_error": document["delta_standard_error"],
            "perplexity": document["perplexity"],
        }
        found["full"] = {"perplexity": document["reference"]["perplexity"], "loss": document["reference"]["loss"]}
        found["tokens"] = {"evaluation": document["tokens"]}
    return found


def accept(found: dict[str, dict[str, float]]) -> list[str]:
    """What is missing for acceptance, in words; empty when the model is accepted."""
    wrong = [
        f"{bits} bits raise the loss by {found[str(bits)]['rise']:.4f}, at least {least} is needed"
        for bits, least in RISE_AT_LEAST.items()
        if found[str(bits)]["rise"] < least
    ]
    wrong += [
        f"{bits} bits raise the loss by {found[str(bits)]['rise']:.4f}, at most {most} is allowed"
        for bits, most in RISE_AT_MOST.items()
        if found[str(bits)]["rise"] > most
    ]
    return wrong


@torch.no_grad()
def sample(folder: Path, *, stories: int, seed: int) -> str:
    """Stories at temperature 1 from the model itself, one paragraph block each, separated by an empty line."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    torch.manual_seed(seed)
    kept: list[str] = []
    while len(kept) < stories:
        begin = torch.full((32, 1), tokenizer.bos_token_id)
        ids = model.generate(
            begin,
            attention_mask=torch.ones_like(begin),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            max_new_tokens=STORY_TOKENS,
            pad_token_id=tokenizer.eos_token_id,
        )
        for row in ids.tolist():
            ended = tokenizer.eos_token_id in row
            story = re.sub(r"\n\s*\n", "\n", tokenizer.decode(row, skip_special_tokens=True)).strip()
            if ended and "\ufffd" not in story and len(story) > 200:
                kept.append(story)
    return "\n\n".join(kept[:stories]) + "\n"


@torch.no_grad()
def greedy(folder: Path) -> list[str]:
    """Ten greedy continuations, for the card and for a person to read."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    told = []
    for opening in OPENINGS:
        ids = tokenizer(opening, return_tensors="pt").input_ids
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=120,
            pad_token_id=tokenizer.eos_token_id,
        )
        told.append(tokenizer.decode(out[0], skip_special_tokens=True))
    return told


def distinct_share(texts: list[str], words: int = 4, length: int = 70) -> float:
    """Distinct sequences of four words as a share of all, over the first 70 words of each text; 1 for no repetition."""
    shares = []
    for text in texts:
        spoken = text.split()[:length]
        runs = [tuple(spoken[start : start + words]) for start in range(len(spoken) - words + 1)]
        shares.append(len(set(runs)) / max(1, len(runs)))
    return sum(shares) / len(shares)


def repetition(samples: list[str], source: Path | None) -> str:
    """How much the greedy text repeats itself, beside the model that the corpus was sampled from."""
    own = f"{distinct_share(samples):.2f} of the sequences of four words in the first 70 are distinct"
    if source is None:
        return own
    others = distinct_share(greedy(source))
    return f"{own}; {others:.2f} for the model that told the training stories, of the same size and trained far longer"


def training(run: Path, parameters: int) -> str:
    """How it was trained, from the records of one stage or of both."""
    first = run / FIRST if (run / FIRST).is_dir() else run
    arguments = json.loads((first / "arguments.json").read_text())
    corpus = json.loads((run / "tokens" / "corpus.json").read_text())
    log = read_log(first)
    trained = int(log[-1]["tokens"])
    told = f"""**Training.** `tools/train_demo.py`, {trained / 1e6:.1f} million tokens ({trained / parameters:.0f} per parameter) of
children's stories in plain English, sampled for this project from a small public story model (MIT) at temperature 0.75;
corpus sha256 `{corpus["corpus_sha256"]}`, {corpus["corpus_bytes"] / 1e6:.0f} MB, not part of the project. Windows of {arguments["window"]}
tokens, {arguments["batch"]} a step, AdamW, peak rate {arguments["peak_rate"]}, weight decay {arguments["weight_decay"]},
{arguments["precision"]}, seed {arguments["seed"]}; the rate was brought to 2 % of its peak. Loss curve: `loss.csv`
(held-out stories of the same source: {float(log[-1]["heldout_loss"]):.3f} nats at the end)."""
    return told if first == run else f"{told}\n\n{second_stage(run)}"


def second_stage(run: Path) -> str:
    """What `tools/unrepeat_demo.py` did, from its records."""
    given, log = json.loads((run / "arguments.json").read_text()), read_log(run)
    return f"""**Second stage**, against repetition: `tools/unrepeat_demo.py`, {int(given["steps"]):,} steps of likelihood on the same corpus
({int(log[-1]["tokens"]) / 1e6:.1f} million tokens more), every other one with sequence-level unlikelihood (Welleck et al. 2020) on
{given["openings"]} greedy continuations of {given["told"]} tokens: a sequence of {given["ngram"]} tokens that was told before is made less
likely (weight {given["weight"]}, peak rate {given["peak_rate"]}, to 2 % of it). Tokens that repeat so fell from
{100 * float(log[0]["repeated_share"]):.0f} % of what is told to {100 * mean_of_last(log, "repeated_share"):.1f} % over the last five readings; held-out stories cost
{float(log[-1]["heldout_loss"]):.3f} nats at the end (`loss_second_stage.csv`)."""


def mean_of_last(log: list[dict[str, str]], column: str, rows: int = 5) -> float:
    last = [float(row[column]) for row in log[-rows:]]
    return sum(last) / len(last)


def read_log(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "log.csv").open()))


def write_card(
    demo: Path, run: Path, found: dict[str, dict[str, float]], samples: list[str], source: Path | None
) -> None:
    """The model card, every figure from this run."""
    config = json.loads((demo / "config.json").read_text())
    parameters = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(demo).parameters())
    rows = "\n".join(
        f"| {bits} | {found[bits]['perplexity']:.3f} | {found[bits]['rise']:+.4f} ± {found[bits]['standard_error']:.4f} |"
        for bits in ("8", "4", "3", "2")
    )
    told = "\n".join(f"> {text.replace(chr(10), ' ')}\n" for text in samples)
    (demo / "README.md").write_text(
        f"""# The embedded model: little stories

A causal language model of {parameters:,} parameters (Llama type: hidden {config["hidden_size"]},
{config["num_hidden_layers"]} layers, {config["num_attention_heads"]} heads, {config["num_key_value_heads"]} key/value heads,
MLP {config["intermediate_size"]}, byte-level BPE of {config["vocab_size"]}, context {config["max_position_embeddings"]}, tied
embeddings), made for this project so that every page of the workbench shows real numbers without a download.
Licence: that of the project (Apache-2.0).

{training(run, parameters)}

**Texts.** `evaluation.txt`: original stories written for this project, never trained on. `calibration.txt`: sampled from
this model at temperature 1, fixed seed. Stories are separated by an empty line; each is read with the beginning- and
end-of-text tokens around it.

**Perplexity** on `evaluation.txt` ({found["tokens"]["evaluation"]:,} tokens, windows of 256), full model {found["full"]["perplexity"]:.3f}; rounding to
nearest, asymmetric, group 64, all block matrices (rise of the loss in nats a token, paired standard error over windows):

| bits | perplexity | rise of the loss |
|---|---|---|
{rows}

**Limits.** It knows children's stories and nothing else: no facts, no other language, no instructions. Its plots wander,
names change within a story, and greedy text repeats itself here and there ({repetition(samples, source)}).
On text of another kind its perplexity is far larger and says little about quantization.

**Ten greedy continuations**, as they came:

{told}""",
        encoding="utf-8",
    )


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch) / "demo"
        export_model(args.run / "final", staged)
        told = sample(staged, stories=SAMPLED_STORIES, seed=args.seed)
        (staged / "calibration.txt").write_text(told, encoding="utf-8")
        shutil.copy(args.demo / "evaluation.txt", staged / "evaluation.txt")
        os.environ["WORKBENCH_DEMO"] = str(staged)
        found = measure()
        print(json.dumps(found, indent=1))
        samples = greedy(staged)
        print("\n\n".join(samples))
        wrong = accept(found)
        if wrong:
            raise SystemExit("not accepted: " + "; ".join(wrong))
        if args.check_only:
            return
        for path in staged.iterdir():
            shutil.copy(path, args.demo / path.name)
    if (args.run / FIRST).is_dir():
        shutil.copy(args.run / FIRST / "log.csv", args.demo / "loss.csv")
        shutil.copy(args.run / "log.csv", args.demo / "loss_second_stage.csv")
    else:
        shutil.copy(args.run / "log.csv", args.demo / "loss.csv")
    write_card(args.demo, args.run, found, samples, args.source)
    print(f"perplexity {math.exp(found['full']['loss']):.3f}; written to {args.demo}")


if __name__ == "__main__":
    main()
