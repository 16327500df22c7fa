"""Find launch shapes on a GPU and write them where `configs` reads them: `python -m lowbit.tune`.

Every candidate runs on the same data with an emptied cache. A shape that does not compile or does not fit is left out,
and the rules of `configs` win unless something is faster by more than `MARGIN`. Nothing is ever tuned at run time.
"""

# A command line prints:
# ruff: noqa: T201

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lowbit import configs
from lowbit.contract import WIDTHS

MARGIN = 0.03
"""Share of the time by which a candidate must beat the rules: less is noise."""
SHAPE = (14336, 4096)
GROUPS = (64, 128)
INPUTS = {"gemv": (1, 4), "matmul": (16, 64, 128)}

Call = Callable[[], object]
Timer = Callable[[Call], float]


@dataclass(frozen=True)
class Task:
    """One launch to find a shape for.

    Attributes:
        name: its key in the file (see `configs.entry_name`).
        call: runs it once.
        candidates: fields of `configs.LaunchShape` to try.
    """

    name: str
    call: Call
    candidates: Sequence[dict[str, int]]


def tune(tasks: Iterator[Task], timer: Timer) -> dict[str, dict[str, int]]:
    """The entries that beat the rules."""
    found = {}
    for task in tasks:
        usual = timer(task.call)
        best, fields = usual, None
        for candidate in task.candidates:
            took = _time_with(task, candidate, timer)
            if took < min(best, usual * (1 - MARGIN)):
                best, fields = took, candidate
        print(f"{task.name:24} {usual:.4g} -> {best:.4g} ms  {fields or 'the rules'}", flush=True)
        if fields is not None:
            found[task.name] = fields
    return found


def _time_with(task: Task, candidate: dict[str, int], timer: Timer) -> float:
    """Milliseconds with a candidate; infinite where it cannot run."""
    from triton.errors import TritonError

    try:
        with configs.tried(task.name, candidate):
            return timer(task.call)
    except (TritonError, RuntimeError) as error:
        print(f"{task.name:24} {candidate} left out: {type(error).__name__}", flush=True)
        return float("inf")


def tasks(device: torch.device, shape: tuple[int, int] = SHAPE) -> Iterator[Task]:
    """Passes over a weight and products with it, at every width."""
    from lowbit import triton_matmul, triton_quant, triton_search

    weight = (torch.randn(shape, device=device) * 0.02).to(torch.bfloat16)
    h, ratios = torch.rand(shape[1], device=device), torch.linspace(1, 0.6, 20, device=device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    out = torch.empty(shape, dtype=dtype, device=device)
    for bits, group in itertools.product(WIDTHS, GROUPS):
        packed = triton_quant.quantize(weight, bits, group, False)
        calls: dict[str, Call] = {
            "quantize": lambda b=bits, g=group: triton_quant.quantize(weight, b, g, False),
            "dequantize": lambda p=packed: triton_quant.dequantize(p, out),
            "errors": lambda b=bits, g=group: triton_quant.errors(weight, b, g, False, h),
            "clip_search": lambda b=bits, g=group: triton_search.clip_search(weight, b, g, False, h, ratios),
        }
        for op, call in calls.items():
            yield Task(configs.entry_name(op, bits, shape[0], group), call, pass_candidates())
    for bits in WIDTHS:
        packed = triton_quant.quantize(weight, bits, 128, False)
        for op, inputs in ((op, rows) for op, counts in INPUTS.items() for rows in counts):
            x = torch.randn(inputs, shape[1], device=device).to(dtype)
            name = configs.entry_name(op, bits, inputs, 128)
            call = lambda x=x, p=packed: triton_matmul.matmul(x, p, None, dtype)  # noqa: E731
            yield Task(name, call, gemv_candidates() if op == "gemv" else matmul_candidates(inputs))


def pass_candidates() -> list[dict[str, int]]:
    """Rows and warps of a program; the group decides its columns."""
    return [{"block_rows": rows, "num_warps": warps} for rows in (4, 8, 16, 32, 64) for warps in (2, 4, 8)]


def gemv_candidates() -> list[dict[str, int]]:
    """Rows, bytes of a step and warps of a program, and how many programs share a row."""
    choices = itertools.product((2, 4, 8, 16), (256, 512, 1024), (2, 4, 8), (1, 2, 4))
    names = ("block_rows", "step_bytes", "num_warps", "split")
    return [dict(zip(names, choice, strict=True)) for choice in choices]


def matmul_candidates(inputs: int) -> list[dict[str, int]]:
    """Rows of the weight and of x, warps and stages of a program."""
    choices = itertools.product((32, 64, 128), sorted({16, min(64, inputs)}), (4, 8), (2, 3, 4))
    names = ("block_rows", "block_inputs", "num_warps", "num_stages")
    return [dict(zip(names, choice, strict=True)) for choice in choices]


def write(entries: dict[str, dict[str, int]], capability: int, device: str, folder: Path) -> Path:
    """Put the entries where `configs` finds them, with what they were measured on."""
    import triton

    folder.mkdir(exist_ok=True)
    path = folder / f"sm_{capability}.json"
    document = {"device": device, "triton": triton.__version__, "torch": torch.__version__, "launches": entries}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lowbit.tune", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=configs.FOLDER, metavar="FOLDER", help="the package's own")
    parser.add_argument("--only", default="", metavar="TEXT", help="only launches whose name has this in it")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("error: launch shapes are measured on a GPU, and there is none", file=sys.stderr)
        return 2
    from triton.testing import do_bench

    device = torch.device("cuda")
    chosen = (task for task in tasks(device) if options.only in task.name)

    def timer(call: Call) -> float:
        took = do_bench(call, warmup=5, rep=30, return_mode="median")
        assert isinstance(took, float)  # one number for one quantile
        return took

    entries = tune(chosen, timer)
    capability = configs.capability_of(device)
    assert capability is not None  # a CUDA device has one
    print(f"written to {write(entries, capability, torch.cuda.get_device_name(), options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
