"""Timing on a GPU: rotated buffers, one CUDA graph a measurement, ceilings of the machine; on a CPU one dry call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch

Thunk = Callable[[], object]
ROTATED_BYTES = 400e6
"""What the calls of one measurement read together: several times the second-level cache."""
MOST_COPIES = 64


@dataclass
class Row:
    """One timed line.

    Attributes:
        operation: what was done.
        who: lowbit, or the peer that did it.
        shape: rows and columns of the weight.
        bits: width of a code; 16 for a dense peer.
        inputs: rows of x; 0 where there is no x.
        microseconds: median of the replays, a call.
        spread: microseconds between the 10th and 90th percentile of the replays.
        floor: microseconds that the measured ceilings allow.
        error: deviation from the reference; 0 is bit-exact where codes are made.
        target: least share of the ceiling that is wanted; 0 where nothing is.
        note: what else a reader must know.
    """

    operation: str
    who: str
    shape: tuple[int, int]
    bits: int
    inputs: int
    microseconds: float
    spread: float
    floor: float
    error: float = 0.0
    target: float = 0.0
    note: str = ""

    @property
    def share(self) -> float:
        """Of the ceiling."""
        return self.floor / self.microseconds

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "share": self.share}

    def cells(self) -> list[str]:
        """The line of a table."""
        wanted = f"{self.target:.0%} {'holds' if self.share >= self.target else 'MISSED'}" if self.target else ""
        inputs = str(self.inputs) if self.inputs else ""
        return [
            self.operation, self.who, f"{self.shape[0]}x{self.shape[1]}", str(self.bits), inputs,
            f"{self.microseconds:.1f} ± {self.spread:.1f}", f"{self.floor:.1f}", f"{self.share:.0%}", wanted,
            f"{self.error:.1e}", self.note,
        ]  # fmt: skip


HEADER = ["operation", "who", "weight", "bits", "rows of x", "us", "floor", "share", "target", "error", "note"]


def markdown(rows: Sequence[Row]) -> str:
    """All lines as a Markdown table."""
    lines = [HEADER, ["---"] * len(HEADER), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


@dataclass
class Clock:
    """Times calls, and knows what the machine can do at best.

    Attributes:
        dry: call once and measure nothing of meaning: the flow is what runs.
        budget: seconds until nothing new is started.
        copy_rate: bytes a second of a device copy, reads and writes both counted.
        product_rate: operations a second of a large bf16 product.
    """

    dry: bool
    budget: float
    replays: int = 60
    copy_rate: float = 1e10
    product_rate: float = 1e12
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - (time.monotonic() - self.started)

    def copies(self, nbytes: float) -> int:
        """Buffers that calls of `nbytes` each must rotate among."""
        return 1 if self.dry else max(2, min(MOST_COPIES, int(ROTATED_BYTES // nbytes) + 1))

    def floor(self, nbytes: float, operations: float) -> float:
        """Microseconds that a perfect kernel would take."""
        return 1e6 * max(nbytes / self.copy_rate, operations / self.product_rate)

    def time(self, calls: Sequence[Thunk]) -> tuple[float, float]:
        """Median microseconds of one of the calls, and the spread."""
        if self.dry:
            started = time.perf_counter()
            calls[0]()
            return 1e6 * (time.perf_counter() - started), 0.0
        return spread_of(self._replayed(calls))

    def time_eagerly(self, calls: Sequence[Thunk]) -> tuple[float, float]:
        """As `time` for calls that ask the device something, which no graph can hold: launches are counted in."""
        if self.dry:
            return self.time(calls)
        for call in calls:
            call()
        found = []
        for index in range(self.replays):
            torch.cuda.synchronize()
            started = time.perf_counter()
            calls[index % len(calls)]()
            torch.cuda.synchronize()
            found.append(1e6 * (time.perf_counter() - started))
        return spread_of(found)

    def _replayed(self, calls: Sequence[Thunk]) -> list[float]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for call in (*calls, *calls[:3]):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        found = []
        for _ in range(self.replays):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            graph.replay()
            last.record()
            last.synchronize()
            found.append(1000 * first.elapsed_time(last) / len(calls))
        return found[3:]

    def measure_ceilings(self) -> None:
        """A copy of 2 GB, and a product of 8192 cubed on random data (zeros are faster)."""
        if self.dry:
            return
        source = torch.empty(2**31, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        self.copy_rate = 2e6 * source.numel() / self.time([lambda: target.copy_(source)])[0]
        del source, target
        a, b = torch.randn(2, 8192, 8192, device="cuda").bfloat16()
        self.product_rate = 2e6 * 8192**3 / self.time([lambda: a @ b])[0]


def spread_of(found: Sequence[float]) -> tuple[float, float]:
    """Median, and the distance between the 10th and the 90th percentile."""
    tenths = statistics.quantiles(found, n=10)
    return statistics.median(found), tenths[8] - tenths[0]
