"""How far estimates are from the truth: the embedded model, a larger one of random weights, and those of a folder.

python -m benchmarks.estimates                # the embedded model and the larger one
python -m benchmarks.estimates --models FOLDER # and one of those in the folder (WORKBENCH_MODELS)

Seconds are processor seconds of this process, one thread, so that what else runs on the machine is left out; the clock
stands beside them. Runs over 20 s are held against a factor of 1.5 either way.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.measurement import Measurement
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.estimates.record import Record, read_record, record_key
from workbench.progress import run
from workbench.settings import demo_folder
from workbench.studies.context import Context

LONG, FACTOR = 20.0, 1.5
PROMPT = "The old sailor opened the letter that had lain in the drawer for twenty years."

RTN, GPTQ = ({"quantizer": name, "bits": 3, "group_size": 64} for name in ("rtn", "gptq"))
OF_DEMO: list[tuple[str, dict[str, Any]]] = [
    ("salience", {"metric": "pqi"}),
    ("layer_error", {"schemes": [{**GPTQ, "quantizer": name} for name in ("gptq", "awq", "hqq")]}),
    ("evaluate", {"scheme": GPTQ}),
    ("sensitivity", {"tokens": 4096}),
    ("sensitivity", {"tokens": 8192, "measure": "kl"}),
    ("sensitivity", {"by": "joint-path"}),
    ("tradeoff", {"points": [{"label": f"{bits}", "scheme": {**RTN, "bits": bits}} for bits in (2, 3, 4, 8)]}),
    ("allocate", {"budget": 3.5, "refine_seconds": 0.0}),
    ("front", {"budgets": [3.0, 3.5, 4.0]}),
    ("court", {"tokens": 2048}),
    ("detach", {"metrics": ["wanda", "fisher", "pqi"]}),
    ("drift", {"prompts": [PROMPT], "scheme": RTN}),
    ("compare_attribution", {"prompt": PROMPT, "methods": ["integrated_gradients", "occlusion", "linearised"]}),
]
OF_LARGER: list[tuple[str, dict[str, Any]]] = [
    ("salience", {"metric": "fisher"}),
    ("salience", {"metric": "obs"}),
    ("layer_error", {"schemes": [RTN, GPTQ]}),
    ("evaluate", {"scheme": RTN}),
    ("sensitivity", {"bits": [3], "by": "joint-path", "nodes": 2}),
    ("sensitivity", {"bits": [3], "tokens": 512}),
]


def measure() -> Iterator[Measurement]:
    """One figure a run: truth over estimate or estimate over truth, whichever is above 1."""
    torch.set_num_threads(1)
    yield from _held("demo", OF_DEMO, {})
    with tempfile.TemporaryDirectory() as folder:
        larger = write_random(Path(folder) / "random-35M")
        text = {"calibration": "demo:calibration", "text": "demo:evaluation", "tokens": 1024}
        yield from _held(str(larger), OF_LARGER, text)


def _held(model: str, runs: list[tuple[str, dict[str, Any]]], text: Mapping[str, Any]) -> Iterator[Measurement]:
    for kind, spec in runs:
        known = studies.inspect.signature(studies.STUDIES[kind]).parameters
        given = {**{name: value for name, value in text.items() if name in known}, **spec}
        found = timed(model, kind, given)
        if found is not None:
            yield _figure(Path(model).name, kind, spec, found)


def timed(model: str, kind: str, spec: Mapping[str, Any]) -> Record | None:
    """A run from a fresh start, and what was expected of it."""
    context, asked = Context(), {"model": model, **spec}
    try:
        run(studies.start(kind, asked, context))
    except WorkbenchError as error:
        print(f"{kind}: {error}")
    key = record_key(kind, asked)
    return read_record(context.cells.get_cells([key]).get(key))


def _figure(model: str, kind: str, spec: Mapping[str, Any], found: Record) -> Measurement:
    ratio = found.seconds / found.processor
    memory = f"{found.peak / 2**20:.0f} MiB expected, {found.held / 2**20:.0f} held"
    words = f"{found.seconds:.1f} s expected, {found.processor:.1f} taken ({found.took:.1f} on the clock), {memory}"
    away = max(ratio, 1 / ratio)
    return Measurement(
        f"{model}: {kind} {_short(spec)}"[:58], away, "x", FACTOR if found.processor > LONG else None, words
    )


def _short(spec: Mapping[str, Any]) -> str:
    return " ".join(str(spec[name]) for name in ("metric", "by", "measure", "tokens") if name in spec)


def write_random(folder: Path) -> Path:
    """A Llama of 35 million random weights with the demo's tokenizer, in Hugging Face format."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(demo_folder()))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=640,
        intermediate_size=1792,
        num_hidden_layers=7,
        num_attention_heads=10,
        num_key_value_heads=5,
        max_position_embeddings=512,
        initializer_range=0.04,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    """The figures, one a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, default=os.environ.get("WORKBENCH_MODELS"))
    folder = parser.parse_args().models
    print(f"load {os.getloadavg()[0]:.1f}")
    for one in measure():
        print(one, flush=True)
    text = {"calibration": "demo:calibration", "text": "demo:evaluation", "tokens": 4096}
    for model in sorted(Path(folder).iterdir()) if folder else ():
        if (model / "config.json").is_file():
            for one in _held(str(model), OF_LARGER, text):
                print(one, flush=True)


if __name__ == "__main__":
    main()
