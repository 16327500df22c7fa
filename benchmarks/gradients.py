"""Gradients: what a path of four points costs beside one gradient, and the memory of a sweep with blocks in turn."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import torch
import transformers

import workbench
from benchmarks.measurement import Measurement
from workbench.model.block_ranges import range_bytes, working_bytes
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.texts import Windows
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows

RUNS = 5
BLOCKS = 12
AT_ONCE = 6
"""Blocks whose gradients the sweep may hold in the memory benchmark."""


def measure() -> Iterator[Measurement]:
    """One measurement after the other, each from a fresh start."""
    yield _path_ratio()
    found = json.loads(subprocess.check_output([sys.executable, "-m", "benchmarks.gradients"], text=True))
    note = f"{found['ranges']} ranges of {AT_ONCE} blocks, {found['gradients'] / 2**20:.0f} MiB of gradients each, "
    note += (
        f"model {found['model'] / 2**20:.0f} MiB; 2 windows of 16 tokens, so that activations stay small beside them"
    )
    yield Measurement("memory of a gradient sweep over a range's gradients", found["ratio"], "x", 1.3, note)


def _path_ratio() -> Measurement:
    """Seconds of the processor, best of several runs taken in turn, because the machine is never quite alone."""
    model = Context().model("demo")
    windows = calibration_windows(model, None, 8192, 256)
    quantized = {one.name: (read_weight(model.model, one) * 8).round() / 8 for one in quantizable_matrices(model.model)}
    seconds: dict[str, list[float]] = {"grad": [], "path": []}
    for _ in range(RUNS):
        for need, times in seconds.items():
            started = time.process_time()
            steps = gradient_sweep(
                model, windows, needs={need}, weights=quantized, nodes=4, consume=lambda matrix, known: None
            )
            workbench.run(steps)
            times.append(time.process_time() - started)
    one, path = min(seconds["grad"]), min(seconds["path"])
    note = f"{path:.2f} over {one:.2f} s of processor time, {windows.tokens} tokens, best of {RUNS}"
    return Measurement("PQI with 4 points over one gradient pass", path / one, "x", 4.5, note)


def peak_memory() -> dict[str, float]:
    """Bytes that a sweep adds to the process at most, beside those of the gradients of its largest range."""
    loaded = _random_model()
    matrices = quantizable_matrices(loaded.model)
    ids = torch.arange(32).reshape(2, 16)
    windows = Windows(ids, "numbers", "", "", 16, ids.numel())
    first = [matrix for matrix in matrices if matrix.block is not None and matrix.block < AT_ONCE]
    gradients = range_bytes(loaded.model, first, {"grad"})
    memory = working_bytes(loaded.model, matrices, windows.window, {"grad"}) + gradients
    with torch.no_grad():
        loaded.model(input_ids=ids)
    gc.collect()
    process, highest, done = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.002):
            highest[0] = max(highest[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    steps = gradient_sweep(loaded, windows, needs={"grad"}, memory=memory, consume=lambda matrix, known: None)
    facts = workbench.run(steps)
    done.set()
    watcher.join()
    model = 4 * sum(parameter.numel() for parameter in loaded.model.parameters())
    return {"ratio": (highest[0] - before) / gradients, "gradients": gradients, "model": model, "ranges": facts.ranges}


def _random_model() -> LoadedModel:
    """A Llama of 150 million random weights, without a tokenizer: only its sizes matter."""
    config = transformers.LlamaConfig(
        hidden_size=1024,
        intermediate_size=2752,
        num_hidden_layers=BLOCKS,
        num_attention_heads=16,
        vocab_size=512,
        max_position_embeddings=128,
    )
    model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    context = Context().model("demo")
    return LoadedModel(model, context.tokenizer, context.identity, 128, None)


if __name__ == "__main__":
    print(json.dumps(peak_memory()))
