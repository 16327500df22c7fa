"""The command `workbench pareto`: plans along a range of budgets, each measured."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli import arguments as words
from workbench.cli.cell_files import read_cells
from workbench.cli.planning import By, CellsFile, MethodOptions, Mixed, Tie, listed, shared_of
from workbench.cli.running import Run, check_out, deliver
from workbench.cli.sweeping import ALONE, Sweep, fanning_out


def enrol(app: typer.Typer) -> None:
    """Add the command to the console script."""
    app.command()(pareto)


@fanning_out
def pareto(
    model: words.Model,
    budgets: Annotated[str, typer.Option("--budgets", help="Stored bits per weight, separated by commas.")],
    cells: CellsFile = None,
    bits: words.Widths = "2,3,4,8",
    by: By = "isolated,joint-path",
    tie: Tie = None,
    rules: Annotated[
        str, typer.Option("--rules", help="Salience metrics whose top matrices get more bits, for comparison; none.")
    ] = "wanda,activation",
    refine: Annotated[float, typer.Option("--refine", min=0, help="Seconds for measured swaps a budget.")] = 0.0,
    quantizer: Mixed = "rtn",
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    option: MethodOptions = None,
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
    """Plans along the front, uniform plans and rules of thumb, each measured on the evaluation text."""
    check_out(out)
    spec = {
        **shared_of(model, allow_download, quantizer, bits, group_size, symmetric, option),
        "budgets": words.parse_numbers(budgets, "--budgets"),
        "ways": listed(by),
        "ties": tie or [],
        "rules": [] if rules.strip() == "none" else listed(rules),
        "refine_seconds": refine,
        "cells": None if cells is None else read_cells(cells),
        "calibration": calibration,
        "text": text,
        "tokens": tokens,
        "window": window,
    }
    deliver(Run(seed, threads, quiet, sweep).study("front", spec), "points", as_json=as_json, out=out)
