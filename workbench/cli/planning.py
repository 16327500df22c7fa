"""The command that decides: `workbench allocate`, a plan of at most so many stored bits per weight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.cli.running import Run
from workbench.errors import WorkbenchError, unknown

if TYPE_CHECKING:
    from workbench.allocation.plan import Plan


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
    """Choose the bits of every matrix for a budget; without --from the sensitivity is measured first."""
    if out is not None and (out.suffix != ".json" or not out.parent.is_dir()):
        raise WorkbenchError(f"--out has value {str(out)[:80]!r}; give a .json file in a folder that is there")
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
    plan = solve(
        document,
        inspected.document,
        budget,
        widths=widths,
        solver=solver,
        locks=locks,
        provenance=run.provenance(),
    )
    from workbench.allocation.plan import dumps

    text = dumps(plan)
    if out is not None:
        _write(text, out)
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
) -> Plan:
    """A plan from a sensitivity document, of the model that was inspected."""
    from workbench.allocation import solve as solvers
    from workbench.allocation.build import build_plan

    known = {"milp": solvers.solve_milp, "lagrangian": solvers.solve_lagrangian}
    if solver not in known:
        raise unknown("solver", solver, tuple(known))
    matrices = inspected["matrices"]
    items = solvers.read_items(solvers.rows_of(sensitivity), matrices=matrices, widths=widths)
    return build_plan(
        known[solver](solvers.restrict(items, locks=locks), budget),
        sensitivity,
        identity=inspected["model"],
        matrices=matrices,
        requested=budget,
        excluded={part["name"]: part["reason"] for part in inspected["skipped"]},
        provenance=provenance,
    )


def read_cells(path: Path) -> dict[str, Any]:
    """A sensitivity document from a file that `workbench sensitivity --out` wrote; csv lacks the facts of the run.

    Raises:
        WorkbenchError: unreadable, or without cells.
    """
    import pandas as pd

    shown = repr(str(path)[:80])
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    try:
        if path.suffix == ".json":
            document = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix in readers:
            frame = readers[path.suffix](path)
            facts = json.loads(frame.attrs.get("document", "{}"))
            document = {**facts, "cells": json.loads(frame.to_json(orient="records"))}
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


def _write(text: str, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(text.encode("utf-8"))
        partial.replace(path)
    except OSError as error:
        raise WorkbenchError(f"the plan could not be written to {str(path)[:80]!r}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
