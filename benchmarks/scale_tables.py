"""The tables of docs/scale.md as Markdown: what runs cost, and how far the model is from what was measured."""

from __future__ import annotations

from typing import Any

from benchmarks.scale_costs import BYTES, MATRICES, WIDTHS, Plan, Shape, crew_of, plan
from benchmarks.scale_seconds import (
    NODES,
    alone_seconds,
    forward_seconds,
    gradient_seconds,
    part_seconds,
    streamed_bytes,
    streamed_seconds,
)
from benchmarks.scale_setting import H200, PLACES, SHAPES, TEXT
from benchmarks.scheduling import Crew, simulate

GB = 1e9
RESULT_BYTES = 350
"""Bytes of a cell on its way to the driver, and of its key, beside 20 for every window."""


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """The Markdown of every table by its name in docs/scale.md."""
    return {
        "shapes": shapes_table(),
        "isolated": runs_table("isolated"),
        "gradients": runs_table("gradients"),
        "traffic": traffic_table(),
        "failures": failures_table(),
        "cells": cells_table(measured["cells"]),
        "two-workers": two_workers_table(measured["two_workers"]),
    }


def shapes_table() -> str:
    """What there is to do."""
    rows = [
        [
            shape.name,
            f"{shape.parameters / GB:.2f} G",
            f"{BYTES * shape.parameters / GB:.0f} GB",
            f"{shape.layers * MATRICES}",
            f"{shape.cells}",
            f"{shape.operations(TEXT.tokens, TEXT.window) / 1e12:.0f} T",
            duration(forward_seconds(shape, H200, TEXT)),
        ]
        for shape in SHAPES
    ]
    head = ["model", "weights", "bf16", "matrices", "cells", "operations of a forward", "a forward on one GPU"]
    return markdown(head, rows)


def runs_table(kind: str) -> str:
    """Time and memory of a table of cells at every place."""
    rows = []
    for shape in SHAPES:
        for place in PLACES:
            planned = plan(shape, place, H200, TEXT, packed=kind == "isolated")
            parts = parts_of(kind, shape, planned)
            outcome = simulate(parts, crew_of(planned))
            rows.append(
                [
                    shape.name,
                    place.name,
                    how(planned),
                    f"{planned.need / GB:.0f} GB",
                    duration(planned.load),
                    duration(outcome.makespan),
                    f"{sum(outcome.busy) / max(1e-9, planned.workers * (outcome.makespan - planned.load)):.0%}",
                ]
            )
    return markdown(["model", "where", "workers", "memory of a copy", "load", "whole run", "busy"], rows)


def parts_of(kind: str, shape: Shape, planned: Plan) -> list[float]:
    """Seconds of the parts of one kind of table; one process alone shares what it can between them."""
    if kind == "gradients":
        return gradient_seconds(shape, H200, TEXT, streamed=planned.streamed)
    if planned.streamed:
        return streamed_seconds(shape, H200, TEXT)
    return (alone_seconds if planned.workers == 1 else part_seconds)(shape, H200, TEXT)


def how(planned: Plan) -> str:
    """The workers in words."""
    if planned.streamed:
        return f"{planned.workers}, streamed"
    return f"{planned.workers} of {planned.devices} GPU{'s' if planned.devices > 1 else ''}"


def traffic_table() -> str:
    """Bytes that cross a network: the model once a machine, cells back, and what streaming reads again and again."""
    windows = TEXT.tokens // TEXT.window
    rows = []
    for shape in SHAPES:
        model = BYTES * shape.parameters
        cells = shape.cells * (RESULT_BYTES + 20 * windows)
        rows.append(
            [
                shape.name,
                f"{model / GB:.0f} GB",
                f"{cells / 1e6:.1f} MB",
                f"{TEXT.tokens * 8 / 1e3:.0f} kB",
                f"{streamed_bytes(shape, TEXT) / 1e12:.1f} TB",
                f"{WIDTHS * NODES * 2 * model / 1e12:.1f} TB",
            ]
        )
    head = ["model", "to each machine", "all cells back", "the text", "streamed, isolated", "streamed, gradients"]
    return markdown(head, rows)


def failures_table() -> str:
    """What workers that end cost, on the largest model and four machines."""
    shape, place = SHAPES[-1], PLACES[2]
    planned = plan(shape, place, H200, TEXT, packed=True)
    parts = part_seconds(shape, H200, TEXT)
    calm, rows = simulate(parts, crew_of(planned)), []
    for count in (0, 1, 4, 16):
        ended = [
            (planned.load + (calm.makespan - planned.load) * (n + 1) / (count + 1), n % planned.workers)
            for n in range(count)
        ]
        outcome = simulate(parts, crew_of(planned), ended)
        rows.append(
            [
                str(count),
                duration(outcome.makespan),
                duration(outcome.lost),
                f"{outcome.makespan / calm.makespan - 1:+.1%}",
            ]
        )
    return markdown(["workers that end", "whole run", "work done twice", "longer by"], rows)


def cells_table(found: list[dict[str, Any]]) -> str:
    """Predicted against measured seconds of the parts of small models, here."""
    rows = []
    for one in found:
        predicted, real = predicted_parts(one), one["parts"]
        ratios = sorted(p / r for p, r in zip(predicted, real, strict=True))
        rows.append(
            [
                f"`{one['model']}`",
                f"{len(real)}",
                f"{one['forward']:.3f} s",
                f"{sum(real):.1f} s",
                f"{sum(predicted):.1f} s",
                f"{sum(predicted) / sum(real):.2f}",
                f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
            ]
        )
    head = ["model", "parts", "a forward", "all parts, measured", "predicted", "ratio", "ratio of single parts"]
    return markdown(head, rows)


def predicted_parts(one: dict[str, Any]) -> list[float]:
    """Seconds of each part of a measured model: a forward, and once a width the share of it behind the block."""
    shape = Shape(one["model"], *one["shape"])
    whole = shape.operations(one["tokens"], one["window"])
    shares = [shape.operations(one["tokens"], one["window"], block) / whole for block in one["blocks"]]
    return [one["forward"] * (1 + len(one["widths"]) * share) for share in shares]


def two_workers_table(one: dict[str, Any] | None) -> str:
    """The simulated makespan against that of a real run, from the seconds that its parts took."""
    if one is None:
        return "No two-worker run was measured."
    least = (sum(one["parts"]) + sum(one["ready"])) / one["workers"]
    simulated = replayed(one)
    rows = [
        ["measured", f"{one['makespan']:.2f} s", ""],
        ["simulated from its parts", f"{simulated:.2f} s", f"{simulated / one['makespan'] - 1:+.1%}"],
        ["both workers busy to the end", f"{least:.2f} s", f"{least / one['makespan'] - 1:+.1%}"],
    ]
    return markdown(
        [f"{one['workers']} workers, {len(one['parts'])} parts of `{one['model']}`", "makespan", "against measured"],
        rows,
    )


def replayed(one: dict[str, Any]) -> float:
    """The makespan of a measured run by simulation: from its parts' seconds and its workers' start."""
    crew = Crew(one["workers"], in_flight=one["in_flight"], bunch_seconds=one["bunch_seconds"])
    return simulate(one["parts"], crew, ready=one["ready"]).makespan


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds else "-"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)
