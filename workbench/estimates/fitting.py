"""Whether a run fits in memory; where it does not, the numbers and the nearest setting that would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from workbench.errors import WorkbenchError
from workbench.estimates.bench import Bench
from workbench.estimates.estimate import Estimate, size_words, try_to_estimate
from workbench.model.devices import free_memory

SMALLEST_WINDOW = 16
Smaller = Iterator[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Room:
    """Memory that a run may take.

    Attributes:
        bytes: how many.
        words: whose they are.
    """

    bytes: int
    words: str


def room_for(bench: Bench) -> Room:
    """What is free on the model's device, or what a limit leaves beside the model."""
    free = free_memory(bench.loaded.model.device)
    limited = free < psutil.virtual_memory().available and bench.loaded.model.device.type == "cpu"
    return Room(free, f"the memory limit leaves {size_words(free)}" if limited else f"{size_words(free)} are free")


def check_fits(bench: Bench, kind: str, spec: Mapping[str, Any], estimate: Estimate) -> None:
    """Refuse a run that needs more memory than there is.

    Raises:
        WorkbenchError: it does, with what it needs, what there is, and the nearest smaller setting that fits.
    """
    room = room_for(bench)
    if estimate.peak <= room.bytes:
        return
    offered = nearest(bench, kind, spec, room.bytes)
    way_out = f"it would fit with {offered[0]} ({size_words(offered[1].peak)})" if offered else _last_resort(bench)
    raise WorkbenchError(f"{kind} needs about {size_words(estimate.peak)} of memory; {room.words}; {way_out}")


def _last_resort(bench: Bench) -> str:
    if getattr(bench.loaded, "streamed", False):
        return "no smaller window or text would fit; choose a smaller model, or a machine with more memory"
    return "no smaller window or text would fit; --memory-limit SIZE works block by block"


def nearest(bench: Bench, kind: str, spec: Mapping[str, Any], room: int) -> tuple[str, Estimate] | None:
    """The setting that is least below the one asked for and fits, in words, with its estimate."""
    found: list[tuple[int, str, Estimate]] = []
    for knob in (_texts, _windows, _both, _widths, _metrics):
        for steps, (words, change) in enumerate(knob(bench, kind, spec), start=1):
            smaller = try_to_estimate(bench, kind, {**spec, **change})
            if smaller is not None and smaller.peak <= room:
                found.append((steps, words, smaller))
                break
    best = min(found, key=lambda one: one[0], default=None)
    return None if best is None else (best[1], best[2])


def _sizes(bench: Bench, kind: str, spec: Mapping[str, Any]) -> tuple[int, int] | None:
    """Tokens and window of the text that a study reads; None where it reads none."""
    from workbench.estimates.estimate import completed

    asked = completed(kind, spec)
    if "window" not in asked:
        return None
    for cut in (bench.calibration, bench.evaluation):
        try:
            text = cut(asked)
        except WorkbenchError:
            continue
        return text.tokens, text.window
    return None


def _halves(start: int, least: int) -> Iterator[int]:
    while start // 2 >= least:
        start //= 2
        yield start


def _texts(bench: Bench, kind: str, spec: Mapping[str, Any]) -> Smaller:
    found = _sizes(bench, kind, spec)
    for tokens in _halves(found[0], 2 * found[1]) if found else ():
        yield f"{tokens} tokens", {"tokens": tokens}


def _windows(bench: Bench, kind: str, spec: Mapping[str, Any]) -> Smaller:
    found = _sizes(bench, kind, spec)
    for window in _halves(found[1], SMALLEST_WINDOW) if found else ():
        yield f"a window of {window} tokens", {"window": window}


def _both(bench: Bench, kind: str, spec: Mapping[str, Any]) -> Smaller:
    found = _sizes(bench, kind, spec)
    pairs = (
        zip(_halves(found[0], 2 * SMALLEST_WINDOW), _halves(found[1], SMALLEST_WINDOW), strict=False) if found else ()
    )
    for tokens, window in pairs:
        yield f"{tokens} tokens in windows of {window}", {"tokens": tokens, "window": window}


def _list_knob(name: str, words: Callable[[list[Any]], str]) -> Callable[..., Smaller]:
    def knob(bench: Bench, kind: str, spec: Mapping[str, Any]) -> Smaller:
        held = list(spec.get(name) or ())
        for count in range(len(held) - 1, 0, -1):
            yield words(held[:count]), {name: held[:count]}

    return knob


_widths = _list_knob("bits", lambda kept: f"the widths {', '.join(map(str, kept))} alone")
_metrics = _list_knob("metrics", lambda kept: f"{len(kept)} metrics" if len(kept) > 1 else "one metric")
