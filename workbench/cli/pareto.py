"""The command `workbench pareto`: plans along a range of budgets, each measured."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli import arguments as words
from workbench.cli.grouping import grouped
from workbench.cli.groups import BothTexts, Mix, Source
from workbench.cli.planning import By, CellsFile, Tie, read_table
from workbench.cli.running import SweepRun


def enrol(app: typer.Typer) -> None:
    """Add the command to the console script."""
    app.command()(pareto)


@grouped
def pareto(
    source: Source,
    budgets: Annotated[str, typer.Option("--budgets", help="Stored bits per weight, separated by commas.")],
    mix: Mix,
    *,
    cells: CellsFile = None,
    by: By = "isolated,joint-path",
    tie: Tie = None,
    rules: Annotated[
        str,
        typer.Option(
            "--rules", help="Rules of thumb beside: salience metrics whose top matrices get more bits; or none."
        ),
    ] = "wanda,activation",
    refine: Annotated[
        float, typer.Option("--refine", min=0, help="Seconds a budget for trying changes that are measured.")
    ] = 0.0,
    texts: BothTexts,
    run: SweepRun,
) -> None:
    """Plans for a range of budgets, each measured.

    The front of size against quality, beside uniform plans and rules of thumb, all on the evaluation text.
    """
    asked = {
        "budgets": words.parse_numbers(budgets, "--budgets"),
        "ways": words.listed(by),
        "ties": tie or [],
        "rules": [] if rules.strip() == "none" else words.listed(rules),
        "refine_seconds": refine,
        "cells": read_table(cells),
    }
    run.answer("front", {**source.spec, **mix.spec, **asked, **texts.spec}, "points")
