"""Attribution scores beside inseq's, by hand: `python -m benchmarks.peers_inseq --python inseq-env/bin/python`.

Questions go to inseq's environment in a folder, scores come back as JSON; both sides use double precision and eager
attention. Prompts have no begin mark, which only inseq's baseline replaces. Left out: DeepLIFT, value zeroing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from workbench.attribution.adapter import Adapter
from workbench.attribution.target_kinds import Kind
from workbench.attribution.targets import Target
from workbench.model.folders import open_folder
from workbench.registry import attribution

HOW = (
    "give the python of an environment that has inseq as --python; to make one: python -m venv inseq-env &&"
    " inseq-env/bin/pip install torch==2.13.0 inseq==0.7.1 transformers"
)
LIMIT = 1e-6
"""Scores agree that differ by less than this share of the largest; inseq hands its own on in single precision."""
NODES = 32
SIZES: dict[str, Any] = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE = SIZES | {"initializer_range": 0.15, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {"gpt2": GPT2Config(**SHAPE), "llama": LlamaConfig(**SHAPE, intermediate_size=64, num_key_value_heads=2)}
TARGETS: dict[Kind, str] = {"logit": "logit", "prob": "probability", "contrast": "contrast_logits_diff"}
ON_PATH = {"baseline": "unk", "nodes": NODES, "max_nodes": NODES}
THEIR_PATH = {"n_steps": NODES, "internal_batch_size": 1}  # inseq takes a contrast at one point at a time only
PEERS: tuple[tuple[str, dict[str, Any], str, dict[str, Any], str], ...] = (
    ("gradient", {"norm": "l2"}, "saliency", {}, "norm"),
    ("input_x_gradient", {}, "input_x_gradient", {}, "sum"),
    ("integrated_gradients", ON_PATH, "integrated_gradients", THEIR_PATH, "sum"),
    ("occlusion", {"baseline": "unk"}, "occlusion", {}, "size"),
)
"""Ours and its options, inseq's and its own; the norm or the sum over hidden dimensions, or sizes, are compared."""

THEIRS = """
import json, pathlib, inseq, torch, transformers

take = {"norm": lambda scores: scores.norm(dim=-1), "sum": lambda scores: scores.sum(-1), "size": lambda scores: scores}
loaded, found = {}, []
for one in json.loads(pathlib.Path("asked.json").read_text()):
    name = one["model"], one["method"]
    if name not in loaded:
        loaded[name] = inseq.load_model(*name)
    output = loaded[name].attribute(one["prompt"], one["whole"], show_progress=False, **one["options"])
    scores = output.sequence_attributions[0]
    ids = [token.id for token in scores.target[:-1]]
    kept = take[one["compared"]](scores.target_attributions[: len(ids), 0].double())
    found.append({"ids": ids, "scores": kept.tolist()})
versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
pathlib.Path("answered.json").write_text(json.dumps({"versions": versions, "found": found}))
"""


def main() -> None:
    """Ask both sides, print the table, and end with an error where they disagree."""
    parser = argparse.ArgumentParser(description="Attribution scores beside those of inseq.")
    parser.add_argument("--python", type=Path, help="python of an environment with inseq 0.7.1")
    if (python := parser.parse_args().python) is None:
        sys.exit(HOW)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as place:
        asked = list(questions(Path(place)))
        answer = ask(python.absolute(), Path(place), [question for question, _, _ in asked])
    print(f"ours torch {torch.__version__}, transformers {transformers.__version__}; inseq beside {answer['versions']}")
    print(f"{'model':6} {'target':9} {'ours':21} {'inseq':21} {'compared':9} {'largest':>9} {'differ by':>9}")
    apart = [row(*ours, theirs) for ours, theirs in zip(asked, answer["found"], strict=True)]
    if missed := sum(not share <= LIMIT for share in apart):
        sys.exit(f"{missed} of {len(apart)} differ by more than {LIMIT} of the largest score")


def questions(place: Path) -> Iterator[tuple[dict[str, Any], list[int], torch.Tensor]]:
    """Each question as inseq gets it, the prompt's token ids and our scores [tok]; models go to `place`."""
    for folder, (prompt, answer, foil) in write_models(place).items():
        model = AutoModelForCausalLM.from_pretrained(place / folder, dtype=torch.float64, attn_implementation="eager")
        adapter = Adapter(model.eval(), AutoTokenizer.from_pretrained(place / folder))
        ids = adapter.encode(prompt).ids
        ends = [adapter.encode(prompt + word).ids[0, ids.shape[1] :].tolist() for word in (answer, foil)]
        for kind, function in TARGETS.items():
            chosen = ends[0] + ends[1] if kind == "contrast" else ends[0]
            target = Target(kind, tuple(chosen), (answer, foil)[: len(chosen)])
            rest = {"attributed_fn": function} | ({"contrast_targets": prompt + foil} if kind == "contrast" else {})
            for name, options, theirs, their_options, compared in PEERS:
                scores = attribution.get(name)(adapter, ids, target, **options).scores
                asked = {"model": folder, "target": kind, "ours": name, "method": theirs, "compared": compared}
                asked |= {"prompt": prompt, "whole": prompt + answer, "options": rest | their_options}
                yield asked, ids[0].tolist(), scores.abs() if compared == "size" else scores


def write_models(place: Path) -> dict[str, tuple[str, str, str]]:
    """Two random models and the embedded one, saved in double precision; their prompts, answers and foils."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3} | {f"w{i}": i for i in range(4, SIZES["vocab_size"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).double().save_pretrained(place / name)
        PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(place / name)
    folder = open_folder("demo").path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    tokenizer.unk_token = tokenizer.eos_token  # it has none; inseq would take the end mark as well
    tokenizer.save_pretrained(place / "demo")
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).save_pretrained(place / "demo")
    story = "Lily had a red ball. One day, Lily went to the park to play with her red"
    return dict.fromkeys(CONFIGS, ("w17 w33 w90 w8 w64 w12 w45", " w40", " w70")) | {"demo": (story, " ball", " car")}


def ask(python: Path, place: Path, asked: list[dict[str, Any]]) -> dict[str, Any]:
    """What inseq answers, run by its own python without the network."""
    (place / "asked.json").write_text(json.dumps(asked))
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run([python, "-I", "-c", THEIRS], cwd=place, env=offline, capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{python} cannot be run ({error.strerror}); {HOW}")
    if done.returncode:
        sys.exit(f"inseq failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}; {HOW}")
    return json.loads((place / "answered.json").read_text())


def row(question: dict[str, Any], ids: list[int], ours: torch.Tensor, theirs: dict[str, Any]) -> float:
    """Print one line of the table; the largest difference as a share of the largest score."""
    if theirs["ids"] != ids:
        sys.exit(f"inseq reads {question['prompt']!r} as {theirs['ids']}, we as {ids}: nothing to compare")
    other = torch.tensor(theirs["scores"], dtype=torch.float64)
    largest, gap = float(ours.abs().max()), float((ours - other).abs().max())
    names = f"{question['model']:6} {question['target']:9} {question['ours']:21} {question['method']:21}"
    print(f"{names} {question['compared']:9} {largest:9.3g} {gap:9.1e}", flush=True)
    return gap / largest


if __name__ == "__main__":
    main()
