"""The commands that judge: `court`, `detach` and `agreement` of metrics, `windows` of the calibration text."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli import arguments as words
from workbench.cli.grouping import grouped
from workbench.cli.groups import BothTexts, Family, Source, Texts, Uniform
from workbench.cli.running import SweepRun, TableRun

Metrics = Annotated[
    str | None, typer.Option("--metrics", help="Names, commas between [all that score single weights].")
]
COMPARED_BITS = 3
"""What metrics compare the full weights with unless told otherwise, where the quantizer has that width."""


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    for command in (court, detach, agreement, windows):
        app.command()(command)


@grouped
def court(source: Source, family: Family, *, bits: words.Widths = "2,3,4", texts: BothTexts, run: SweepRun) -> None:
    """Which sensitivity metric to believe.

    What each predicts, against the rise of the loss that is measured, matrix by matrix and all together.
    """
    spec = {**source.spec, **family.spec, "bits": words.parse_widths(bits), **texts.spec}
    run.answer("court", spec, "cells")


@grouped
def detach(
    source: Source,
    uniform: Uniform,
    *,
    metrics: Metrics = None,
    shares: Annotated[str, typer.Option("--shares", help="Percent of the weights that are kept at full precision.")] = (
        "0.1,0.5,2,5"
    ),
    texts: BothTexts,
    run: TableRun,
) -> None:
    """What keeping a metric's top weights wins.

    Quality with the top weights of each metric at full precision and the rest quantized; random ones are the floor.
    """
    asked = {"scheme": uniform.scheme(usual=COMPARED_BITS), "metrics": _names(metrics), "seed": run.seed}
    kept = words.parse_shares(shares, "--shares")
    run.answer("detach", {**source.spec, **asked, "shares": kept, **texts.spec}, "detach")


@grouped
def agreement(
    source: Source,
    uniform: Uniform,
    *,
    metrics: Metrics = None,
    top: Annotated[
        float, typer.Option("--top", help="Part of the weights whose overlap is counted, 0.01 for one in a hundred.")
    ] = 0.01,
    texts: Texts,
    run: TableRun,
) -> None:
    """Where salience metrics agree.

    Rank correlation and overlap of the top weights for every two metrics, per matrix and overall.
    """
    asked = {"scheme": uniform.scheme(usual=COMPARED_BITS), "metrics": _names(metrics), "top": top}
    run.answer("agreement", {**source.spec, **asked, **texts.spec}, "agreement")


@grouped
def windows(source: Source, texts: Texts, run: TableRun) -> None:
    """Which windows of the calibration text weigh most.

    How much each drives the statistics: by the size of its error (EL2N) and of its gradient (GraNd).
    """
    run.answer("windows", {**source.spec, **texts.spec}, "windows")


def _names(metrics: str | None) -> list[str] | None:
    return None if metrics is None else words.listed(metrics)
