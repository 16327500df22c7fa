"""The kernels on this CPU, one thread: naive eager torch, the chunked backend, torch.compile, hqq and torchao if there.

Times are CPU seconds of the thread, best of some rounds in which all take turns: a busy machine disturbs them least.
Every time is for 100 million weights; a limit is the time of naive eager torch in the same run over the wanted ratio.
"""

from __future__ import annotations

import ctypes
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measurement import Measurement
from lowbit import torch_backend, torch_compiled, torch_requantize

BLOCK = ((2304, 768), (768, 768), (3072, 768), (768, 3072))
"""The four matrices of a transformer block of GPT-2's size."""
BLOCKS = 14
"""Blocks for 100 million weights, which no cache holds."""
ROUNDS = 3
GROUP = 128
WIDTHS = (1, 2, 3, 4, 8)
NAIVE = "naive eager"
WANTED = {
    ("4-bit values + errors", "chunked"): 2.2,
    ("4-bit errors", "chunked"): 2.2,
    ("error table of five widths", "chunked"): 3.3,
    ("error table of five widths", "torch.compile"): 10.0,
}
"""How much faster than naive eager torch an implementation must be."""

Layer = tuple[Tensor, Tensor, Tensor]
"""A weight, the weights of its columns, and a buffer for its values."""


@dataclass(frozen=True)
class Job:
    """One implementation of one operation, as a function of a layer."""

    operation: str
    implementation: str
    run: Callable[[Layer], object]


def measure(
    blocks: int = BLOCKS, shapes: Sequence[tuple[int, int]] = BLOCK, rounds: int = ROUNDS
) -> Iterator[Measurement]:
    """All operations in all implementations, then the memory of one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        layers = [layer(*shape) for _ in range(blocks) for shape in shapes]
        yield from times(list(jobs()), layers, rounds)
    finally:
        torch.set_num_threads(threads)
    yield from memory()


def layer(rows: int, columns: int) -> Layer:
    w = torch.randn(rows, columns) * 0.02
    return w, torch.rand(columns), torch.zeros_like(w)


def times(jobs: Sequence[Job], layers: Sequence[Layer], rounds: int) -> Iterator[Measurement]:
    """One measurement a job, beside its ratio to the naive one of the same operation."""
    scale = 1e8 / sum(w.numel() for w, _, _ in layers)
    for job in jobs:
        job.run(layers[0])  # compiles what is to be compiled
    best = [float("inf")] * len(jobs)
    for _ in range(rounds):
        for index, job in enumerate(jobs):
            best[index] = min(best[index], scale * thread_seconds(job, layers))
    naive = {job.operation: seconds for job, seconds in zip(jobs, best, strict=True) if job.implementation == NAIVE}
    for job, seconds in zip(jobs, best, strict=True):
        reference = naive[job.operation]
        wanted = WANTED.get((job.operation, job.implementation))
        limit = None if wanted is None else reference / wanted
        note = "" if job.implementation == NAIVE else f"{reference / seconds:.2f}x naive"
        yield Measurement(f"{job.operation}, {job.implementation}", seconds, "s", limit, note)


def thread_seconds(job: Job, layers: Sequence[Layer]) -> float:
    started = time.thread_time()
    for one in layers:
        job.run(one)
    return time.thread_time() - started


def jobs() -> Iterator[Job]:
    """What can run here."""
    values, error, table = "4-bit values + errors", "4-bit errors", "error table of five widths"
    yield Job(values, NAIVE, lambda one: naive(one, 4))
    yield Job(values, "chunked", lambda one: torch_requantize.requantize(one[0], 4, GROUP, False, one[1], one[2]))
    yield Job(error, NAIVE, lambda one: naive(one, 4))
    yield Job(error, "chunked", lambda one: torch_backend.errors(one[0], 4, GROUP, False, one[1]))
    yield Job(table, NAIVE, naive_table)
    yield Job(table, "chunked", lambda one: torch_backend.error_table(one[0], WIDTHS, (GROUP,), False, one[1]))
    if torch_compiled.obstacle(torch.device("cpu")) is None:
        yield Job(values, "torch.compile", lambda one: torch_compiled.requantize(one[0], 4, GROUP, False, *one[1:]))
        yield Job(error, "torch.compile", lambda one: torch_compiled.errors(one[0], 4, GROUP, False, one[1]))
        fused = torch_compiled.error_table
        yield Job(table, "torch.compile", lambda one: fused(one[0], WIDTHS, (GROUP,), False, one[1]))
    yield Job("4-bit packed codes", NAIVE, naive_packed)
    yield Job("4-bit packed codes", "chunked", lambda one: torch_backend.quantize(one[0], 4, GROUP, False))
    yield from peers("4-bit packed codes")


def peers(operation: str) -> Iterator[Job]:
    """Quantizers of other packages, if they are installed; theirs round to the nearest too, on grids of their own."""
    if importlib.util.find_spec("hqq") is not None:
        from hqq.core.quantize import Quantizer

        options = {"nbits": 4, "group_size": GROUP, "axis": 1, "optimize": False, "device": "cpu"}
        yield Job(operation, "hqq, no search", lambda one: Quantizer.quantize(one[0], **options))
    if importlib.util.find_spec("torchao") is not None:
        from torchao.quantization import quant_primitives as ao

        def torchao(one: Layer) -> Tensor:
            size = (1, GROUP)
            scale, zero = ao.choose_qparams_affine(one[0], ao.MappingType.ASYMMETRIC, size, torch.uint8, 0, 15)
            return ao.quantize_affine(one[0], size, scale, zero, torch.uint8, 0, 15)

        yield Job(operation, "torchao, not packed", torchao)


def naive_grid(one: Layer, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scale and zero point as a textbook writes them, on whole tensors."""
    grouped = one[0].unflatten(1, (-1, GROUP))
    lo = grouped.amin(-1, keepdim=True).clamp(max=0)
    hi = grouped.amax(-1, keepdim=True).clamp(min=0)
    scale = ((hi - lo) / (2**bits - 1)).half().clamp(min=2**-24).float()
    zero = torch.clamp(torch.round(-lo / scale), 0, 2**bits - 1)
    return torch.clamp(torch.round(grouped / scale) + zero, 0, 2**bits - 1), scale, zero


def naive(one: Layer, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values, and both sums of squared errors of each group, like the functions it is compared with."""
    codes, scale, zero = naive_grid(one, bits)
    values = ((codes - zero) * scale).flatten(1)
    square = (values - one[0]) ** 2
    return values, square.unflatten(1, (-1, GROUP)).sum(-1), naive_weighted(square, one[1])


def naive_table(one: Layer) -> list[Tensor]:
    """The weighted errors alone, width by width."""
    found = []
    for bits in WIDTHS:
        codes, scale, zero = naive_grid(one, bits)
        found.append(naive_weighted((((codes - zero) * scale).flatten(1) - one[0]) ** 2, one[1]))
    return found


def naive_weighted(square: Tensor, h: Tensor) -> Tensor:
    return (square * h).unflatten(1, (-1, GROUP)).sum(-1)


def naive_packed(one: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """Two codes a byte, scale and zero point."""
    codes, scale, zero = naive_grid(one, 4)
    held = codes.flatten(1).to(torch.uint8)
    return held[:, ::2] | (held[:, 1::2] << 4), scale.half(), zero.to(torch.int16)


def memory(rows: int = 4096, columns: int = 4096) -> Iterator[Measurement]:
    """Peak of the process above what it held, in chunks; chunks are made large, so that only they count."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        print("no /proc: memory is not measured")
        return
    w, h, out = layer(rows, columns)
    size, torch_backend.CHUNK["cpu"] = torch_backend.CHUNK["cpu"], rows * columns // 4
    try:
        for name, run in (
            ("4-bit errors", lambda: torch_backend.errors(w, 4, GROUP, False, h)),
            ("4-bit values + errors", lambda: torch_requantize.requantize(w, 4, GROUP, False, h, out)),
            ("error table of five widths", lambda: torch_backend.error_table(w, WIDTHS, (GROUP,), False, h)),
        ):
            ctypes.CDLL(None).malloc_trim(0)  # else memory that was freed and kept would serve unseen
            before = status("VmRSS")
            reset.write_text("5")  # the peak starts again from here
            run()
            chunks = (status("VmHWM") - before) / (rows * columns)
            yield Measurement(f"{name}, chunked, peak extra memory", chunks, "chunks", 2.0, "of float32 weights")
    finally:
        torch_backend.CHUNK["cpu"] = size


def status(key: str) -> int:
    """Bytes of a line of the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))
