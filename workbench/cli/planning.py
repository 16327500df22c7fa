"""The command that decides: `workbench allocate`, a plan for a budget."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.cli.attributing import DEMO_PROMPTS, read_prompts
from workbench.cli.cell_files import read_cells
from workbench.cli.grouping import grouped
from workbench.cli.groups import Mix, Source, Texts
from workbench.cli.output import check_out, put_file
from workbench.cli.running import Run
from workbench.errors import WorkbenchError, unknown

SOLVERS = ("milp", "lagrangian")
REFINED_FOR = 30.0

CellsFile = Annotated[
    Path | None, typer.Option("--from", help="Table that `workbench sensitivity --out` wrote [it is measured first].")
]
By = Annotated[
    str,
    typer.Option("--by", help="Tables that plans are solved on: isolated, joint-path, second-order; commas between."),
]
Tie = Annotated[
    list[str] | None,
    typer.Option("--tie", help="Matrices that must be alike: fused (q, k, v; gate, up), or NAME,NAME; repeatable."),
]


def enrol(app: typer.Typer) -> None:
    """Add the command to the console script."""
    app.command()(allocate)


@grouped
def allocate(
    source: Source,
    *,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Stored bits per weight, scales and zero points included.")
    ] = None,
    file_bytes: Annotated[
        str | None,
        typer.Option("--file-bytes", help="In its place: what all weights may take in a file, such as 450KB."),
    ] = None,
    mix: Mix,
    cells: CellsFile = None,
    solver: Annotated[
        str, typer.Option("--solver", help="milp (proves the optimum) or lagrangian (instant).")
    ] = "milp",
    by: By = "isolated,joint-path",
    lock: Annotated[
        list[str] | None, typer.Option("--lock", metavar="NAME=BITS", help="Fix the width of a matrix; repeatable.")
    ] = None,
    floor: Annotated[
        int | None, typer.Option("--floor", help="Fewest bits of every matrix that is not locked.")
    ] = None,
    ceiling: Annotated[
        int | None, typer.Option("--ceiling", help="Most bits of every matrix that is not locked.")
    ] = None,
    tie: Tie = None,
    refine: Annotated[
        float | None,
        typer.Option(
            "--refine", min=0, help="Seconds for trying changes that are measured [30; 0 with the lagrangian]."
        ),
    ] = None,
    max_kl: Annotated[
        float | None,
        typer.Option("--max-kl", help="The fewest bits that keep the KL to the full model below this, nats a token."),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            "--min-agreement",
            help="The fewest bits whose attribution keeps this rank correlation with the full model's.",
        ),
    ] = None,
    prompts: Annotated[
        str, typer.Option("--prompts", help="For --min-agreement: file with one prompt a line, or a JSON list.")
    ] = DEMO_PROMPTS,
    method: Annotated[str, typer.Option("--method", help="For --min-agreement: attribution method.")] = "linearised",
    texts: Texts,
    run: Run,
    out: Annotated[Path | None, typer.Option("--out", help="Write the plan, JSON.")] = None,
) -> None:
    """Choose the bits of every matrix for a budget.

    Without --from the sensitivity is measured first. Plans solved on several tables, the uniform ones within the budget
    and measured swaps are held against each other on calibration text that none was made on; a uniform plan stands
    unless another is clearly better. With --max-kl or --min-agreement the budget is the most, and the plan of fewest
    bits is taken that keeps both. Ctrl-C while swaps are measured ends that search; the best plan so far is written.
    """
    if out is not None and out.suffix != ".json":
        raise WorkbenchError(f"--out has value {str(out)[:80]!r}; a plan's ending must be .json")
    check_out(out)
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    limits = {
        "budget": budget,
        "locks": {name: _width(text) for name, text in words.parse_pairs(lock, "--lock").items()},
        "floor": floor,
        "ceiling": ceiling,
        "ties": tie or [],
    }
    spec = {**source.spec, **mix.spec, **limits, "cells": read_table(cells), **texts.spec}
    if max_kl is None and min_agreement is None:
        swaps = (0.0 if solver == "lagrangian" else REFINED_FOR) if refine is None else refine
        own = {"file_bytes": file_bytes, "ways": words.listed(by), "solver": solver, "refine_seconds": swaps}
        document = run.study("allocate", {**spec, **own}).document
        _tell(document)
    else:
        if file_bytes is not None:
            raise WorkbenchError("--file-bytes and a ceiling on KL or agreement were given; give one of them")
        compared = read_prompts(prompts) if min_agreement is not None else []
        guard = {"max_kl": max_kl, "min_agreement": min_agreement, "method": method, "prompts": compared}
        document = run.study("guarded", {**spec, **guard, "by": words.listed(by)[0]}).document
    _hand_over({**document["plan"], "provenance": run.provenance()}, as_json=run.as_json, out=out)
    run.leave()


def read_table(cells: Path | None) -> dict[str, Any] | None:
    """A sensitivity document from a file; None where there is none.

    Raises:
        WorkbenchError: unreadable, or without cells.
    """
    return None if cells is None else read_cells(cells)


def _width(text: str) -> int:
    if not text.isdigit():
        raise WorkbenchError(f"--lock has width {text[:20]!r}; give NAME=BITS with bits 1, 2, 3, 4, 8 or 16")
    return int(text)


def _tell(document: Mapping[str, Any]) -> None:
    """What was chosen from and why, on stderr."""
    for one in document["candidates"]:
        rise = f"{one['delta_loss']:+.4f} ± {one['delta_standard_error']:.4f}" if one["delta_loss"] is not None else "-"
        mark = "*" if one["taken"] else " "
        print(f"workbench: {mark} {one['label']}: {one['stored_bits']:.3f} stored bits, loss {rise}", file=sys.stderr)
    if document["note"]:
        print(f"workbench: {document['note']}", file=sys.stderr)
    print(f"workbench: {document['reason']}", file=sys.stderr)


def _hand_over(plan: Mapping[str, Any], *, as_json: bool, out: Path | None) -> None:
    """The plan into a file, and on stdout where it is asked for or there is no file."""
    from workbench.allocation.plan import dumps, read_plan

    text = dumps(read_plan(dict(plan)))
    if out is not None:
        put_file("the plan", out, lambda to: to.write_bytes(text.encode("utf-8")))
    if as_json or out is None:
        print(text, end="" if text.endswith("\n") else "\n")
