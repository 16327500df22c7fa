"""Every Triton kernel on a GPU, beside its peers, in one command of less than ten minutes.

    PYTHONPATH=kernels python -m benchmarks.kernels_gpu --out results

Ceilings first, then exactness on memory that is filled with NaN and 255 before use, then timings: buffers rotate so
that the cache does not help, one CUDA graph holds the calls of a line, its replays give median and spread. `--dry`
runs the same flow on a CPU in Triton's interpreter, where its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

SHAPES = ((4096, 4096), (14336, 4096), (4096, 14336))
INPUTS = (1, 4, 16, 64, 2048)
DRY_SHAPES, DRY_INPUTS, DRY_WIDTHS = ((64, 256),), (1, 16), (4,)
RESERVE = 60
"""Seconds of the budget below which no new shape is begun."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parser().parse_args(arguments)
    if options.dry:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
    import torch

    from benchmarks.kernels_timing import Clock, markdown

    if not options.dry and not torch.cuda.is_available():
        print("error: there is no GPU; --dry runs the flow without one", file=sys.stderr)
        return 2
    clock = Clock(options.dry, options.budget)
    clock.measure_ceilings()
    print(f"copy {clock.copy_rate / 1e12:.2f} TB/s, product {clock.product_rate / 1e12:.0f} TFLOP/s", flush=True)
    wrong = exactness(options.dry)
    rows = []
    for row in lines(clock):
        rows.append(row)
        print(" | ".join(row.cells()), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    document = {**facts(options.dry), "copy_rate": clock.copy_rate, "product_rate": clock.product_rate}
    document |= {"wrong": wrong, "seconds": options.budget - clock.left, "rows": [row.to_json() for row in rows]}
    (options.out / "kernels_gpu.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / "kernels_gpu.md").write_text(markdown(rows))
    print(f"{len(rows)} lines in {document['seconds']:.0f} s, written to {options.out}")
    for sentence in wrong:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.kernels_gpu", description=__doc__.splitlines()[0])
    made.add_argument("--dry", action="store_true", help="tiny shapes on the CPU, in Triton's interpreter")
    made.add_argument("--budget", type=float, default=480, metavar="SECONDS", help="begin nothing new after these")
    made.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "benchmarks/results")), metavar="FOLDER")
    return made


def lines(clock) -> Iterator:
    """All timed lines, shape by shape while there is time."""
    import torch

    from benchmarks import kernels_cases, kernels_peers
    from lowbit import WIDTHS

    device = torch.device("cpu" if clock.dry else "cuda")
    inputs, widths = (DRY_INPUTS, DRY_WIDTHS) if clock.dry else (INPUTS, WIDTHS)
    for shape in DRY_SHAPES if clock.dry else SHAPES:
        setting = kernels_cases.Setting(clock, device, shape, inputs, widths)
        for part in (kernels_cases.products, kernels_cases.passes, kernels_peers.peers):
            if clock.left > RESERVE:
                yield from part(setting)
            else:
                print(f"left out for lack of time: {part.__name__} of {shape[0]}x{shape[1]}", flush=True)


def exactness(dry: bool) -> list[str]:
    """Where the compiled kernels and the torch backend disagree: nowhere, it is hoped."""
    import torch

    import lowbit

    device = torch.device("cpu" if dry else "cuda")
    wrong = []
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills new memory with NaN and 255
    try:
        for bits in DRY_WIDTHS if dry else lowbit.WIDTHS:
            for symmetric in (False, True):
                for rows, columns, group_size in ((33, 256, 128),) if dry else ((1000, 4096, 128), (77, 1000, 64)):
                    w = (torch.randn(rows, columns, device=device) * 0.02).bfloat16()
                    options = {"bits": bits, "group_size": group_size, "symmetric": symmetric}
                    made, wanted = (lowbit.quantize(w, **options, backend=name) for name in ("triton", "torch"))
                    same = all(map(torch.equal, (*made.planes, made.scale), (*wanted.planes, wanted.scale)))
                    values = [lowbit.dequantize(made, backend=name) for name in ("triton", "torch")]
                    if not same or not torch.equal(*values):
                        wrong.append(f"{bits} bit, symmetric {symmetric}, {rows}x{columns}: not the same bits as torch")
    finally:
        torch.use_deterministic_algorithms(False)
    print(f"exactness: {len(wrong)} disagreements", flush=True)
    return wrong


def facts(dry: bool) -> dict[str, object]:
    """Machine and versions."""
    import torch
    import triton

    device = "none, a dry run" if dry else torch.cuda.get_device_name()
    return {"device": device, "torch": torch.__version__, "triton": triton.__version__}


if __name__ == "__main__":
    sys.exit(main())
