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
from workbench.cli.running import Run, check_out, put_file
from workbench.cli.sweeping import ALONE, Sweep, sweeping
from workbench.errors import WorkbenchError, unknown

SOLVERS = ("milp", "lagrangian")
REFINED_FOR = 30.0

CellsFile = Annotated[Path | None, typer.Option("--from", help="Cells that `workbench sensitivity --out` wrote.")]
Mixed = Annotated[str, typer.Option("--quantizer", help="One quantizer, or several with commas that a plan may mix.")]
By = Annotated[
    str, typer.Option("--by", help="What plans are solved on: isolated, joint-path, second-order; commas between.")
]
Tie = Annotated[
    list[str] | None,
    typer.Option("--tie", help="Matrices that must be alike: fused (q, k, v; gate, up), or NAME,NAME; repeatable."),
]
MethodOptions = Annotated[
    list[str] | None, typer.Option("--option", help="NAME=VALUE for every quantizer that has it; repeatable.")
]


def enrol(app: typer.Typer) -> None:
    """Add the command to the console script."""
    app.command()(allocate)


@sweeping
def allocate(
    model: words.Model,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Stored bits per weight, scales and zero points included.")
    ] = None,
    file_bytes: Annotated[
        str | None,
        typer.Option("--file-bytes", help="In its place: what all weights may take in a file, such as 450KB."),
    ] = None,
    cells: CellsFile = None,
    bits: words.Widths = "2,3,4,8",
    solver: Annotated[
        str, typer.Option("--solver", help="milp (proves the optimum) or lagrangian (instant).")
    ] = "milp",
    by: By = "isolated,joint-path",
    lock: Annotated[list[str] | None, typer.Option("--lock", help="NAME=BITS, repeatable.")] = None,
    floor: Annotated[int | None, typer.Option("--floor", help="Least width of every other matrix.")] = None,
    ceiling: Annotated[int | None, typer.Option("--ceiling", help="Most width of every other matrix.")] = None,
    tie: Tie = None,
    refine: Annotated[
        float | None,
        typer.Option("--refine", min=0, help="Seconds for measured swaps [30; 0 with the lagrangian]."),
    ] = None,
    max_kl: Annotated[
        float | None, typer.Option("--max-kl", help="Fewest bits of at most this KL to the full model, nats a token.")
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option("--min-agreement", help="Fewest bits whose attribution keeps this rank correlation."),
    ] = None,
    prompts: Annotated[
        str, typer.Option("--prompts", help="For --min-agreement: file with one prompt a line, or a JSON list.")
    ] = DEMO_PROMPTS,
    method: Annotated[str, typer.Option("--method", help="For --min-agreement: attribution method.")] = "linearised",
    quantizer: Mixed = "rtn",
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    option: MethodOptions = None,
    calibration: words.Calibration = None,
    tokens: words.Tokens = None,
    window: words.Window = None,
    allow_download: words.AllowDownload = False,
    as_json: words.AsJson = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the plan, JSON.")] = None,
    seed: words.Seed = 0,
    threads: words.Threads = None,
    quiet: words.Quiet = False,
    sweep: Sweep = ALONE,
) -> None:
    """Choose the bits of every matrix for a budget; without --from the sensitivity is measured first.

    Plans solved on several tables, the uniform ones within the budget and measured swaps are held against each other on
    calibration text that none was made on; a uniform plan stands unless another is clearly better. With --max-kl or
    --min-agreement the budget is the most, and the plan of fewest bits is taken that keeps both.
    """
    if out is not None and out.suffix != ".json":
        raise WorkbenchError(f"--out has value {str(out)[:80]!r}; a plan's ending must be .json")
    check_out(out)
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    spec = {
        **shared_of(model, allow_download, quantizer, bits, group_size, symmetric, option),
        "budget": budget,
        "locks": {name: _width(text) for name, text in words.parse_pairs(lock, "--lock").items()},
        "floor": floor,
        "ceiling": ceiling,
        "ties": tie or [],
        "cells": None if cells is None else read_cells(cells),
        "calibration": calibration,
        "tokens": tokens,
        "window": window,
    }
    run = Run(seed, threads, quiet, sweep)
    if max_kl is None and min_agreement is None:
        swaps = (0.0 if solver == "lagrangian" else REFINED_FOR) if refine is None else refine
        own = {"file_bytes": file_bytes, "ways": listed(by), "solver": solver, "refine_seconds": swaps}
        document = run.study("allocate", {**spec, **own}).document
        _tell(document)
    else:
        if file_bytes is not None:
            raise WorkbenchError("--file-bytes and a ceiling on KL or agreement were given; give one of them")
        compared = read_prompts(prompts) if min_agreement is not None else []
        guard = {"max_kl": max_kl, "min_agreement": min_agreement, "method": method, "prompts": compared}
        document = run.study("guarded", {**spec, **guard, "by": listed(by)[0]}).document
    _hand_over({**document["plan"], "provenance": run.provenance()}, as_json=as_json, out=out)


def shared_of(
    model: str,
    allow_download: bool,
    quantizer: str,
    bits: str,
    group_size: int | None,
    symmetric: bool,
    option: list[str] | None,
) -> dict[str, Any]:
    """What the commands that decide ask of models and quantizers."""
    names = listed(quantizer)
    return {
        "model": model,
        "allow_download": allow_download,
        "quantizers": names,
        "bits": words.parse_widths(bits),
        "group_size": 64 if group_size is None else group_size,
        "symmetric": symmetric,
        "options": _share_options(words.parse_pairs(option, "--option"), names),
    }


def _share_options(options: Mapping[str, str], names: list[str]) -> dict[str, dict[str, str]]:
    """Every option for each quantizer that has it.

    Raises:
        WorkbenchError: one that none of them has.
    """
    from workbench.registry import quantizers

    known = {name: {option.name for option in quantizers.get(name).options} for name in names}
    for key in options:
        if not any(key in held for held in known.values()):
            every = sorted({name for held in known.values() for name in held})
            raise unknown(f"option of {', '.join(names)}", key, tuple(every) or ("(there are none)",))
    return {name: {key: value for key, value in options.items() if key in known[name]} for name in names}


def listed(text: str) -> list[str]:
    """The parts between commas, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


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
