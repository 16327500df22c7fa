"""Models read block by block: peak memory on one with the shapes of Llama-3.2-1B, and what it costs on a small one.

python -m benchmarks streaming                          # makes the large model anew, 2.5 GB, and removes it
python -m benchmarks.streaming FOLDER [LIMIT [TOKENS]]  # the large run alone, on a folder that is there
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import workbench
from benchmarks.measurement import Measurement
from workbench import studies
from workbench.model.fit import fit_of
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices
from workbench.model.statistics import collect
from workbench.model.streamed_build import layout_of
from workbench.quantizers.driver import quantize_model
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.scheme import Scheme
from workbench.sizes import parse_size
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows

ROOT = Path(__file__).resolve().parent.parent
LIMIT = "4GiB"
ALLOWED = 4.5
TOKENS = 2048
LEVELS_0_1 = {"mean", "mean_abs", "max_abs", "sum_sq", "sample_rows", "gram_blocks"}
REPEATS = 3


def measure() -> Iterator[Measurement]:
    """Peak memory of the large run, then the small one both ways."""
    yield from _large()
    yield from _small()


def _large() -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory(prefix="shape-model-") as folder:
        subprocess.run([sys.executable, str(ROOT / "tools" / "make_shape_model.py"), folder], check=True)
        command = [sys.executable, "-m", "benchmarks.streaming", folder, LIMIT, str(TOKENS)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    for one in map(json.loads, lines):
        note = f"{one['seconds']:.0f} s, blocks read {one['reads']} times"
        yield Measurement(f"peak RSS, {one['stage']}, 1B at {LIMIT}", one["peak"] / 2**30, "GiB", ALLOWED, note)


def run_large(name: str, limit: int, tokens: int) -> Iterator[dict[str, Any]]:
    """Statistics, two quantizers on two blocks and perplexity, and the kernel's word on memory behind each."""
    context = Context(memory_limit=limit)
    clock = time.perf_counter()
    loaded = context.model(name)
    yield _reading("opening", clock, loaded)
    windows = calibration_windows(loaded, "demo:calibration", tokens, 256)
    clock = time.perf_counter()
    workbench.run(collect(loaded, windows, needs=LEVELS_0_1))
    yield _reading("statistics L0-L1", clock, loaded)
    matrices = [matrix for matrix in quantizable_matrices(loaded.model) if matrix.block in (0, 1)]
    for quantizer in ("rtn", "gptq"):
        scheme = complete_scheme(Scheme(quantizer, 4, 128))
        clock = time.perf_counter()
        workbench.run(quantize_model(loaded, {matrix.name: scheme for matrix in matrices}, windows))
        yield _reading(f"{quantizer} of two blocks", clock, loaded)
    clock = time.perf_counter()
    found = workbench.run(studies.evaluate(loaded, text="demo:evaluation", tokens=tokens, window=256, context=context))
    yield _reading("perplexity", clock, loaded) | {"perplexity": found.document["perplexity"]}


def _reading(stage: str, clock: float, loaded: LoadedModel) -> dict[str, Any]:
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB on Linux; the same number as VmHWM
    stream: Any = vars(loaded.model).get("weight_stream")
    reads = None if stream is None else sum(stream.reads.values())
    return {"stage": stage, "seconds": time.perf_counter() - clock, "peak": peak, "reads": reads}


def _small() -> Iterator[Measurement]:
    """The embedded model in memory and block by block, in turn, nothing kept between runs."""
    resident = load("demo")
    streamed = load("demo", memory_limit=fit_of(layout_of(resident.model), resident.model.config).smallest)
    assert streamed.streamed
    assert not resident.streamed
    for what, work in _questions().items():
        seconds: dict[str, list[float]] = {"resident": [], "streamed": []}
        numbers = {}
        for _ in range(REPEATS):
            for way, loaded in (("resident", resident), ("streamed", streamed)):
                clock = time.perf_counter()
                numbers[way] = work(loaded)
                seconds[way].append(time.perf_counter() - clock)
        ratio = min(seconds["streamed"]) / min(seconds["resident"])
        pairs = list(zip(numbers["resident"], numbers["streamed"], strict=True))
        gap = max(abs(a - b) for a, b in pairs)
        best = f"{min(seconds['streamed']):.2f} s to {min(seconds['resident']):.2f} s, best of {REPEATS}"
        yield Measurement(f"streamed / resident, demo, {what}", ratio, "x", None, best)
        yield Measurement(f"largest difference, demo, {what}", gap, "", 1e-6, f"of {len(pairs)} numbers")


def _questions() -> dict[str, Callable[[LoadedModel], list[float]]]:
    """What is asked of both, as a list of numbers each."""
    scheme = {"quantizer": "gptq", "bits": 3, "group_size": 64}

    def errors(loaded: LoadedModel) -> list[float]:
        cells = workbench.run(studies.layer_error(loaded, schemes=[scheme], tokens=4096)).document["cells"]
        return [cell[key] for cell in cells for key in ("weight_error", "output_error", "stored_bits")]

    def evaluated(loaded: LoadedModel) -> list[float]:
        found = workbench.run(studies.evaluate(loaded, scheme=scheme, tokens=4096)).document
        return [found[key] for key in ("loss", "delta_loss", "kl_mean", "top1_agreement", "stored_bits")]

    def sensitivity(loaded: LoadedModel) -> list[float]:
        cells = workbench.run(studies.sensitivity(loaded, bits=[2, 4], tokens=1024)).document["cells"]
        return [value for cell in cells for value in cell.values() if isinstance(value, float)]

    return {"layer error": errors, "evaluate": evaluated, "sensitivity": sensitivity}


if __name__ == "__main__":
    folder, limit, tokens = (*sys.argv[1:], *("", LIMIT, str(TOKENS))[len(sys.argv) - 1 :])
    for reading in run_large(folder, parse_size(limit, "limit"), int(tokens)):
        print(json.dumps(reading), flush=True)
