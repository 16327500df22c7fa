"""Bits chosen by auto-round's AutoScheme and ModelOpt's auto_quantize beside ours, at the stored bits of each peer.

python -m benchmarks.peers_allocation --model FOLDER --calibration FILE --text FILE --auto-round PYTHON

Each peer searches in an environment of its own, on the calibration tokens that ours reads, and hands back the bits of
every matrix. From there all is ours: rounding to nearest on symmetric grids, stored bits, perplexity on the text. No
peer's own rounding is compared. Seconds are of the search, one thread, model at hand.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# pyright: reportMissingImports=false
GROUP = 64
PATIENCE = 600.0
"""Seconds after which a peer is given up."""
RUNS = (("ours", 0.0, ()), ("ours, swaps, tables kept", 30.0, ()), ("ours, swaps, fused alike", 30.0, ("fused",)))
"""Ours: name, seconds of measured swaps, ties. The last is for peers that keep fused matrices alike."""

Found = tuple[float, dict[str, int]]  # seconds, and bits of every matrix


def auto_round(model: Any, tokenizer: Any, asked: dict[str, Any]) -> Found:
    """AutoScheme on the windows as they are: a dataset can only be named, so it is registered."""
    import datasets
    from auto_round import AutoRound, AutoScheme
    from auto_round.calib_dataset import register_dataset

    ids, shape = asked["ids"], {"nsamples": len(asked["ids"]), "seqlen": len(asked["ids"][0])}
    held = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}
    register_dataset("windows")(lambda **_: datasets.Dataset.from_dict(held))
    options = [f"W{width}A16G{GROUP}" for width in asked["widths"]]
    scheme = AutoScheme(avg_bits=asked["bits"], options=options, **shape)
    started = time.perf_counter()
    tuner = AutoRound(model, tokenizer, scheme=scheme, dataset="windows", iters=0, device_map="cpu", **shape)
    tuner.post_init()  # the search alone: nothing is rounded or packed
    seconds = time.perf_counter() - started
    return seconds, {name: one["bits"] for name, one in tuner.layer_config.items() if ".layers." in name}


def modelopt(model: Any, tokenizer: Any, asked: dict[str, Any]) -> Found:
    """The gradient search. Its budget counts no scales, but the head that it leaves alone, at 16 bits."""
    import modelopt.torch.quantization as mtq
    import torch

    inner = [one for name, one in model.named_modules() if isinstance(one, torch.nn.Linear) and ".layers." in name]
    numel, head = sum(one.weight.numel() for one in inner), model.lm_head.weight.numel()
    wanted = ((asked["bits"] - 16 / GROUP) * numel + 16 * head) / (numel + head)
    off, on = {"quantizer_name": "*", "enable": False}, {"quantizer_name": "*weight_quantizer", "enable": True}
    grids = [{"num_bits": width, "block_sizes": {-1: GROUP}} for width in asked["widths"]]
    formats = [{"quant_cfg": [off, {**on, "cfg": grid}], "algorithm": "max"} for grid in grids]
    batches = torch.tensor(asked["ids"]).split(8)
    work = {"forward_step": lambda model, ids: model(input_ids=ids, labels=ids), "loss_func": lambda out, _: out.loss}
    steps, aim = dict.fromkeys(("num_calib_steps", "num_score_steps"), len(batches)), {"effective_bits": wanted}
    started = time.perf_counter()
    searched, _ = mtq.auto_quantize(model, aim, formats, batches, disabled_layers="*lm_head*", **work, **steps)
    seconds = time.perf_counter() - started
    named = {name: one.weight_quantizer for name, one in searched.named_modules() if hasattr(one, "weight_quantizer")}
    return seconds, {name: one.num_bits if one.is_enabled else 16 for name, one in named.items() if ".layers." in name}


@dataclass(frozen=True)
class Peer:
    """A search of somebody else: its widths, what its environment needs, and whether it keeps fused matrices alike."""

    title: str
    search: Callable[[Any, Any, dict[str, Any]], Found]
    widths: tuple[int, ...]
    packages: str
    ties: bool


_MODELOPT = "nvidia-modelopt transformers accelerate requests datasets"
PEERS = {
    "auto_round": Peer("auto-round AutoScheme", auto_round, (2, 4, 8), "auto-round", False),
    "modelopt": Peer("ModelOpt auto_quantize", modelopt, (3, 4, 8), _MODELOPT, True),
}


def search(name: str, folder: Path) -> None:
    """What the peer's process does: read `asked.json`, search, write `found.json`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    asked = json.loads((folder / "asked.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype="float32").eval()
    seconds, bits = PEERS[name].search(model, AutoTokenizer.from_pretrained(asked["model"]), asked)
    (folder / "found.json").write_text(json.dumps({"seconds": seconds, "bits": bits}))


def hand_over(name: str, python: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Run a peer in its environment; where it fails, the error is its last line."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "asked.json").write_text(json.dumps(asked))
        # -P: the names of files beside this one must not stand before the peer's packages
        command = [python, "-P", str(Path(__file__).resolve()), "--search", name, folder]
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        ran = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, timeout=PATIENCE)
        if ran.returncode:
            raise RuntimeError((ran.stderr.strip() or "no word of it").splitlines()[-1])
        return json.loads((Path(folder) / "found.json").read_text())


def compare(peer: Peer, found: dict[str, Any], given: argparse.Namespace) -> Iterator[str]:
    """A line each: the peer's plan, ours at its stored bits, and the uniform ones within a bit of them."""
    import workbench
    from workbench import studies
    from workbench.allocation.importing import import_plan
    from workbench.allocation.plan import Plan, read_plan, to_document
    from workbench.scheme import WIDTHS

    context = studies.Context()  # afresh for each peer: the first of our plans pays for its tables
    loaded = context.model(given.model)
    texts, scheme = {"calibration": given.calibration, "text": given.text}, {"group_size": GROUP, "symmetric": True}

    def line(who: str, seconds: str, plan: Plan) -> str:
        cost = workbench.run(studies.evaluate(loaded, plan=to_document(plan), **texts, context=context)).document
        rise = f"{cost['delta_loss']:+.4f} ± {cost['delta_standard_error']:.4f}"
        return f"| {who} | {seconds} | {cost['stored_bits']:.3f} | {cost['perplexity']:.3f} | {rise} |"

    def imported(bits: dict[str, int]) -> Plan:
        raw = json.dumps({name: {"bits": one, **scheme} for name, one in bits.items()})
        return import_plan(raw.encode(), workbench.run(studies.inspection(loaded)).document).plan

    plan = imported(found["bits"])
    yield line(peer.title, f"{found['seconds']:.1f}", plan)
    for who, refine, ties in RUNS[: 2 + peer.ties]:
        asked: dict[str, Any] = {"budget": plan.budget.solved, "bits": peer.widths, "refine_seconds": refine, **scheme}
        started = time.perf_counter()
        steps = studies.allocate(loaded, **asked, ties=ties, calibration=given.calibration, context=context)
        decided = workbench.run(steps).document
        yield line(who, f"{time.perf_counter() - started:.1f}", read_plan(decided["plan"]))
    for width in WIDTHS:
        if abs(width - (plan.budget.solved or 0.0)) <= 1:
            yield line(f"uniform {width} bit", "", imported({"default": width}))


def main() -> None:
    parser = argparse.ArgumentParser(description="Bits chosen by two peers beside ours, at the same stored bits.")
    for flag in ("--model", "--calibration", "--text"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--bits", type=float, default=4.0, help="stored bits per weight that the peers are asked for")
    for flag in (f"--{name.replace('_', '-')}" for name in PEERS):
        parser.add_argument(flag, metavar="PYTHON", help="python of its environment")
    given = parser.parse_args()
    from workbench.model.load import load
    from workbench.studies.texts import CALIBRATION_TOKENS, calibration_windows

    loaded = load(given.model)
    # as many as ours reads: to solve on, and to decide on
    ids = calibration_windows(loaded, given.calibration, 2 * CALIBRATION_TOKENS, None).ids.tolist()
    print("| who | seconds | stored bits | perplexity | rise of the loss, nats |\n|---|---|---|---|---|")
    for name, peer in PEERS.items():
        python = getattr(given, name)
        if python is None:
            make = f"`python -m venv ENV && ENV/bin/pip install torch {peer.packages}`"
            print(f"{peer.title} left out: make {make} and give --{name.replace('_', '-')} ENV/bin/python")
            continue
        asked = {"model": str(loaded.folder), "ids": ids, "widths": peer.widths, "bits": given.bits}
        try:
            for line in compare(peer, hand_over(name, python, asked), given):
                print(line, flush=True)
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"{peer.title} left out: {error}")


if __name__ == "__main__":
    search(sys.argv[2], Path(sys.argv[3])) if sys.argv[1:2] == ["--search"] else main()
