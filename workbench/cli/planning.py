"""The command that decides: `workbench allocate`, a plan of at most so many stored bits per weight."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.cli.running import Run, check_out, put_file
from workbench.errors import WorkbenchError, unknown

if TYPE_CHECKING:
    from workbench.allocation.plan import Plan


CLEARLY = 1.645
"""Standard errors by which a solved plan must beat a uniform one: 95 % of one side."""


def enrol(app: typer.Typer) -> None:
    """Add the command to the console script."""
    app.command()(allocate)


def allocate(
    model: words.Model,
    budget: Annotated[float, typer.Option("--budget", help="Stored bits per weight, scales and zero points included.")],
    cells: Annotated[
        Path | None, typer.Option("--from", help="Cells that `workbench sensitivity --out` wrote.")
    ] = None,
    bits: words.Widths = "2,3,4,8",
    solver: Annotated[
        str, typer.Option("--solver", help="milp (proves the optimum) or lagrangian (instant).")
    ] = "milp",
    lock: Annotated[list[str] | None, typer.Option("--lock", help="NAME=BITS, repeatable.")] = None,
    quantizer: words.Quantizer = None,
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    option: words.Options = None,
    calibration: words.Calibration = None,
    tokens: words.Tokens = None,
    window: words.Window = None,
    allow_download: words.AllowDownload = False,
    as_json: words.AsJson = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the plan, JSON.")] = None,
    seed: words.Seed = 0,
    threads: words.Threads = None,
    quiet: words.Quiet = False,
) -> None:
    """Choose the bits of every matrix for a budget; without --from the sensitivity is measured first.

    The plan is held against the best uniform one within the budget, on calibration text that it was not solved on, and
    gives way to it unless it is clearly better.
    """
    if out is not None and out.suffix != ".json":
        raise WorkbenchError(f"--out has value {str(out)[:80]!r}; a plan's ending must be .json")
    check_out(out)
    locks = {name: _width(text) for name, text in words.parse_pairs(lock, "--lock").items()}
    widths = words.parse_widths(bits)
    run = Run(seed, threads, quiet)
    inspected = run.study("inspect", {"model": model, "allow_download": allow_download})
    if cells is not None:
        document = read_cells(cells)
    else:
        spec = {
            "model": model,
            "allow_download": allow_download,
            "quantizer": quantizer or "rtn",
            "bits": widths,
            "group_size": 64 if group_size is None else group_size,
            "symmetric": symmetric,
            "options": words.parse_pairs(option, "--option"),
            "calibration": calibration,
            "tokens": tokens,
            "window": window,
        }
        document = run.study("sensitivity", spec).document
    plans = solve(
        document,
        inspected.document,
        budget,
        widths=widths,
        solver=solver,
        locks=locks,
        provenance=run.provenance(),
    )
    from workbench.allocation.plan import dumps

    text = dumps(choose(plans, document, run, {"model": model, "allow_download": allow_download}, calibration))
    if out is not None:
        put_file("the plan", out, lambda to: to.write_bytes(text.encode("utf-8")))
    if as_json or out is None:
        print(text, end="" if text.endswith("\n") else "\n")


def solve(
    sensitivity: Mapping[str, Any],
    inspected: Mapping[str, Any],
    budget: float,
    *,
    widths: list[int],
    solver: str,
    locks: Mapping[str, int],
    provenance: Mapping[str, Any],
) -> list[Plan]:
    """The best uniform plan within the budget, if there is one, and the solver's, which is the last."""
    from workbench.allocation import solve as solvers
    from workbench.allocation.build import build_plan

    known = {"milp": solvers.solve_milp, "lagrangian": solvers.solve_lagrangian}
    if solver not in known:
        raise unknown("solver", solver, tuple(known))
    matrices = inspected["matrices"]
    items = solvers.read_items(solvers.rows_of(sensitivity), matrices=matrices, widths=widths)
    items = solvers.restrict(items, locks=locks)
    solved = known[solver](items, budget)
    uniform = [one for one in solvers.uniform_solutions(items) if one.stored_bits <= budget + 1e-9]
    return [
        build_plan(
            solution,
            sensitivity,
            identity=inspected["model"],
            matrices=matrices,
            requested=budget,
            excluded={part["name"]: part["reason"] for part in inspected["skipped"]},
            provenance=provenance,
        )
        for solution in [*sorted(uniform, key=lambda one: one.value)[:1], solved]
    ]


def choose(
    plans: list[Plan], sensitivity: Mapping[str, Any], run: Run, model: Mapping[str, Any], calibration: str | None
) -> Plan:
    """The solver's plan, unless a uniform one of no more bits is as good on text that neither was solved on."""
    from workbench.allocation.plan import to_document

    if len(plans) == 1 or plans[0].tensors == plans[1].tensors:
        return plans[-1]
    facts = sensitivity.get("calibration") or {}
    seen = {"used": facts["tokens"], "window": facts["window"]} if facts else {}
    spec = {**model, **seen, "plans": [to_document(plan) for plan in plans], "calibration": calibration}
    try:
        found = run.study("confirm", spec).document["points"][1]
    except WorkbenchError as error:
        print(f"workbench: the plan was not confirmed: {error}", file=sys.stderr)
        return plans[1]
    better = found["difference"] < -CLEARLY * found["standard_error"]
    measured = f"{found['difference']:+.4f} ± {found['standard_error']:.4f} nats against the uniform plan"
    verdict = "the solver's plan stands" if better else "not clearly better, so the uniform plan is taken"
    print(f"workbench: on text that it was not solved on: {measured}; {verdict}", file=sys.stderr)
    return plans[1] if better else plans[0]


def read_cells(path: Path) -> dict[str, Any]:
    """A sensitivity document from a file that `workbench sensitivity --out` wrote; csv lacks the facts of the run.

    Raises:
        WorkbenchError: unreadable, or without cells.
    """
    import pandas as pd

    from workbench.results import finite

    shown = repr(str(path)[:80])
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    try:
        if path.suffix == ".json":
            document = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix in readers:
            frame = readers[path.suffix](path)
            facts = json.loads(frame.attrs.get("document", "{}"))
            document = {**facts, "cells": finite(frame.to_dict(orient="records"))}
        else:
            raise WorkbenchError(f"cells file {shown} has ending {path.suffix!r}; choose one of: .parquet, .csv, .json")
    except FileNotFoundError:
        raise WorkbenchError(f"cells file {shown} is not there") from None
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"cells file {shown} could not be read: {str(error).splitlines()[0][:120]}") from None
    if not isinstance(document, dict) or not document.get("cells"):
        raise WorkbenchError(
            f"cells file {shown} holds no cells; write one with `workbench sensitivity MODEL --out FILE`"
        )
    return document


def _width(text: str) -> int:
    if not text.isdigit():
        raise WorkbenchError(f"--lock has width {text[:20]!r}; give NAME=BITS with bits 1, 2, 3, 4, 8 or 16")
    return int(text)
