"""Memory limits of models read block by block against peaks that the kernel measured, study by study.

python -m benchmarks streaming_limits              # makes a model of 137 million weights, 0.3 GB, and removes it

A limit leaves out what Python and its libraries take. So a study first runs on a tiny model of the same kind; what the
process holds then is taken off the high-water mark of the same study on the larger model (Linux alone: the mark is set
back through /proc/self/clear_refs). A limit that a study refuses is raised to the one that it names.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import workbench
from benchmarks.measurement import Measurement
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.memory import bound_memory
from workbench.sizes import parse_size
from workbench.studies.context import Context

ROOT = Path(__file__).resolve().parent.parent
START = "160MiB"
RTN = {"quantizer": "rtn", "bits": 4, "group_size": 128}
SEEN = {"calibration": "demo:calibration", "tokens": 256, "window": 256}
UNSEEN = {"text": "demo:evaluation", "tokens": 256, "window": 256}
SMALLER = {"tokens": 64, "window": 64}
PROMPT = "Once upon a time there was a small bird who lived in a tall tree."
PTQ161 = {"quantizer": "ptq161", "bits": None, "group_size": -1, "options": {"epochs": 1}}
SHORT = "short.txt"
"""A calibration text that is written when the studies run: what looks at blocks whole is slow."""
ONE = {"prompts": [PROMPT], "method": "gradient"}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "statistics": ("salience", {"metric": "wanda", **SEEN}),
    "rtn": ("layer_error", {"schemes": [RTN], **SEEN}),
    "gptq": ("layer_error", {"schemes": [RTN | {"quantizer": "gptq"}], **SEEN}),
    "evaluate": ("evaluate", UNSEEN),
    "fisher": ("salience", {"metric": "fisher", **SEEN}),
    "path integral": ("salience", {"metric": "pqi", "scheme": RTN, **SEEN}),
    "second order": ("salience", {"metric": "second_order", "scheme": RTN, **SEEN}),
    "sensitivity": ("sensitivity", {"quantizer": "rtn", "bits": [4], **SEEN}),
    "awq": ("drift", {"scheme": RTN | {"quantizer": "awq"}, "calibration": SHORT, **ONE}),
    "ptq161": ("drift", {"scheme": PTQ161, "calibration": SHORT, **ONE}),
    "damage map": ("damage_map", {"scheme": RTN, "prompt": PROMPT}),
    "blame": ("blame", {"scheme": RTN, "prompt": PROMPT}),
    "attention maps": ("attention_maps", {"prompt": 6 * f"{PROMPT} "}),
    "drift": ("drift", {"scheme": RTN, "prompts": [PROMPT], "method": "integrated_gradients"}),
}


def measure() -> Iterator[Measurement]:
    """Peak over limit of every study, at the smallest limit that it takes."""
    with tempfile.TemporaryDirectory(prefix="shape-model-") as folder:
        maker = [sys.executable, str(ROOT / "tools" / "make_shape_model.py")]
        for shape in ("tiny", "wide-blocks"):
            subprocess.run([*maker, str(Path(folder) / shape), "--shape", shape], check=True)
        command = [sys.executable, "-m", "benchmarks.streaming_limits", folder]
        surroundings = os.environ | {"WORKBENCH_CACHE": str(Path(folder) / "cache")}
        lines = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=ROOT, env=surroundings
        ).stdout.splitlines()
    for one in map(json.loads, lines):
        note = f"{one['peak'] / 2**20:.0f} of {one['limit'] / 2**20:.0f} MiB"
        yield Measurement(f"peak / memory limit, {one['study']}", one["peak"] / one["limit"], "x", 1.0, note)


def run_all(folder: Path) -> Iterator[dict[str, Any]]:
    """Every study on the tiny model, then on the larger one."""
    short = folder / SHORT
    short.write_text(8 * f"{PROMPT} ", encoding="utf-8")
    for name, (kind, asked) in ASKED.items():
        spec = asked | ({"calibration": str(short)} if asked.get("calibration") == SHORT else {})
        smaller = spec | SMALLER if "window" in spec else spec
        workbench.run(studies.start(kind, smaller | {"model": str(folder / "tiny")}, Context()))
        limit = parse_size(START, "limit")
        peak = None
        while peak is None:
            try:
                peak = _peak(kind, spec | {"model": str(folder / "wide-blocks")}, limit)
            except WorkbenchError as refused:
                limit = _named(str(refused), limit)
        yield {"study": name, "limit": limit, "peak": peak}


def _peak(kind: str, spec: dict[str, Any], limit: int) -> int:
    """Bytes beyond those held before, by the kernel's high-water mark."""
    bound_memory(None)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    workbench.run(studies.start(kind, spec, Context(memory_limit=limit)))
    return _status("VmHWM") - before


def _named(sentence: str, limit: int) -> int:
    """The smallest limit that a refusal names, which must be a larger one."""
    found = re.search(r"smallest memory limit that would do is ([\d.]+) MiB", sentence)
    named = round(float(found[1]) * 2**20) + 1 if found else 0
    if named <= limit:
        raise AssertionError(f"no larger limit is named: {sentence}")
    return named


def _status(key: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{key}:\s+(\d+) kB", text)
    return 1024 * int(found[1]) if found else 0


if __name__ == "__main__":
    for reading in run_all(Path(sys.argv[1])):
        print(json.dumps(reading), flush=True)
