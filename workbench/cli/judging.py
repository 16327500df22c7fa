"""The commands that judge: `court`, `detach` and `agreement` of metrics, `windows` of the calibration text."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.cli.running import Run, check_out, deliver
from workbench.cli.sweeping import ALONE, Sweep, fanning_out, sweeping

Metrics = Annotated[
    str | None, typer.Option("--metrics", help="Comma-separated names; all that score single weights by default.")
]


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    app.command()(court)
    app.command()(detach)
    app.command()(agreement)
    app.command()(windows)


@fanning_out
def court(
    model: words.Model,
    quantizer: words.Quantizer = None,
    bits: words.Widths = "2,3,4",
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    option: words.Options = None,
    calibration: words.Calibration = None,
    text: words.EvaluationText = None,
    tokens: words.Tokens = None,
    window: words.Window = None,
    allow_download: words.AllowDownload = False,
    as_json: words.AsJson = False,
    out: words.Out = None,
    seed: words.Seed = 0,
    threads: words.Threads = None,
    quiet: words.Quiet = False,
    sweep: Sweep = ALONE,
) -> None:
    """Which sensitivity metric to believe: what each predicts, against the loss that was measured."""
    check_out(out)
    spec = {
        "model": model,
        "allow_download": allow_download,
        "quantizer": quantizer or "rtn",
        "bits": words.parse_widths(bits),
        "group_size": 64 if group_size is None else group_size,
        "symmetric": symmetric,
        "options": words.parse_pairs(option, "--option"),
        "calibration": calibration,
        "text": text,
        "tokens": tokens,
        "window": window,
    }
    deliver(Run(seed, threads, quiet, sweep).study("court", spec), "cells", as_json=as_json, out=out)


@sweeping
def detach(
    model: words.Model,
    metrics: Metrics = None,
    shares: Annotated[str, typer.Option("--shares", help="Percent of the weights that are kept at full precision.")] = (
        "0.1,0.5,2,5"
    ),
    quantizer: words.Quantizer = None,
    bits: words.Bits = None,
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    calibration: words.Calibration = None,
    text: words.EvaluationText = None,
    tokens: words.Tokens = None,
    window: words.Window = None,
    allow_download: words.AllowDownload = False,
    as_json: words.AsJson = False,
    out: words.Out = None,
    seed: words.Seed = 0,
    threads: words.Threads = None,
    quiet: words.Quiet = False,
    sweep: Sweep = ALONE,
) -> None:
    """What is won by keeping the top weights of each metric at full precision, with random ones as the floor."""
    check_out(out)
    spec = {
        "model": model,
        "allow_download": allow_download,
        "scheme": _scheme(quantizer, bits, group_size, symmetric),
        "metrics": _names(metrics),
        "shares": words.parse_shares(shares, "--shares"),
        "calibration": calibration,
        "text": text,
        "tokens": tokens,
        "window": window,
        "seed": seed,
    }
    deliver(Run(seed, threads, quiet, sweep).study("detach", spec), "detach", as_json=as_json, out=out)


@sweeping
def agreement(
    model: words.Model,
    metrics: Metrics = None,
    top: Annotated[float, typer.Option("--top", help="Part of the weights whose overlap is counted.")] = 0.01,
    quantizer: words.Quantizer = None,
    bits: words.Bits = None,
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    calibration: words.Calibration = None,
    tokens: words.Tokens = None,
    window: words.Window = None,
    allow_download: words.AllowDownload = False,
    as_json: words.AsJson = False,
    out: words.Out = None,
    seed: words.Seed = 0,
    threads: words.Threads = None,
    quiet: words.Quiet = False,
    sweep: Sweep = ALONE,
) -> None:
    """Where metrics agree: rank correlation and overlap of the top weights, for every two, per matrix and overall."""
    check_out(out)
    spec = {
        "model": model,
        "allow_download": allow_download,
        "scheme": _scheme(quantizer, bits, group_size, symmetric),
        "metrics": _names(metrics),
        "top": top,
        "calibration": calibration,
        "tokens": tokens,
        "window": window,
    }
    deliver(Run(seed, threads, quiet, sweep).study("agreement", spec), "agreement", as_json=as_json, out=out)


@sweeping
def windows(
    model: words.Model,
    calibration: words.Calibration = None,
    tokens: words.Tokens = None,
    window: words.Window = None,
    allow_download: words.AllowDownload = False,
    as_json: words.AsJson = False,
    out: words.Out = None,
    seed: words.Seed = 0,
    threads: words.Threads = None,
    quiet: words.Quiet = False,
    sweep: Sweep = ALONE,
) -> None:
    """Which windows of the calibration text drive the statistics, by EL2N and GraNd."""
    check_out(out)
    spec = {
        "model": model,
        "allow_download": allow_download,
        "calibration": calibration,
        "tokens": tokens,
        "window": window,
    }
    deliver(Run(seed, threads, quiet, sweep).study("windows", spec), "windows", as_json=as_json, out=out)


def _names(metrics: str | None) -> list[str] | None:
    return None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]


def _scheme(quantizer: str | None, bits: int | None, group_size: int | None, symmetric: bool) -> dict[str, Any]:
    """What metrics compare the full weights with: 3 bits unless told otherwise, or the quantizer's fixed width."""
    chosen = words.scheme(quantizer, bits, group_size, symmetric, None)
    return chosen if bits is not None or chosen["bits"] is None else {**chosen, "bits": 3}
