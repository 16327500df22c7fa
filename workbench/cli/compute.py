"""Commands that compute over weights: inspect, salience, evaluate, sensitivity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.cli.grouping import grouped
from workbench.cli.groups import BothTexts, Choice, Family, Source, Texts
from workbench.cli.running import SweepRun, TableRun

BY = (
    "How: isolated (one matrix quantized), spared (all but one), joint-path (all at once, the cost shared out along the"
    " path) or second-order (from second derivatives)."
)


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    for command in (inspect, salience, evaluate, sensitivity):
        app.command()(command)


@grouped
def inspect(source: Source, as_json: words.AsJson = False, out: words.Out = None, quiet: words.Quiet = False) -> None:
    """What is in a model.

    Its matrices, what is skipped and why, and sizes at 16, 8, 4, 3 and 2 bits. Nothing is computed.
    """
    TableRun(as_json=as_json, out=out, quiet=quiet).answer("inspect", source.spec, "matrices")


@grouped
def salience(
    source: Source,
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="Which metric; `workbench methods salience` lists them.")
    ],
    *,
    option: words.Options = None,
    choice: Choice,
    texts: Texts,
    text2: Annotated[
        str | None, typer.Option("--text2", help="Second text, for metrics that read one [demo:prompts].")
    ] = None,
    tensors: Annotated[Path | None, typer.Option("--tensors", help="Write the full scores as safetensors.")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="Write a mask of the top weights as safetensors.")] = None,
    top: Annotated[
        float, typer.Option("--top", help="Part of the weights that the mask marks, 0.01 for one in a hundred.")
    ] = 0.01,
    mask_scope: Annotated[
        str,
        typer.Option("--mask-scope", help="Where the top ones are sought: matrix, row, or global for the whole model."),
    ] = "matrix",
    run: TableRun,
) -> None:
    """Which weights matter: one metric over all matrices."""
    options = words.parse_pairs(option, "--option")
    asked = {"metric": metric, "options": options, **texts.spec, "text2": text2, **choice.spec()}
    if mask is None and tensors is None:
        run.answer("salience", {**source.spec, **asked}, "matrices")
        return
    run.prepare([("salience", {**source.spec, **asked})])
    from workbench import studies
    from workbench.studies.salience_masks import check_mask, top_masks, write_tensors

    if mask is not None:
        check_mask(metric, top, mask_scope)
    scores: dict[str, Any] | None = None if mask is None else {}
    steps = studies.start("salience", {**source.spec, **asked}, run.context(), tensors=tensors, keep=scores)
    result = run.steps(steps)
    if mask is not None and scores is not None:
        facts = {"metric": metric, "top": repr(top), "scope": mask_scope, "model": result.document["model"]["digest"]}
        write_tensors(top_masks(scores, top, mask_scope), mask, facts)
    run.deliver(result, "matrices")


@grouped
def evaluate(source: Source, choice: Choice, *, option: words.Options = None, texts: BothTexts, run: SweepRun) -> None:
    """What quantization costs in quality.

    Perplexity, KL and agreement with the full model, and the error of every matrix; of the full model alone when no
    quantizer and no plan is chosen.
    """
    options = words.parse_pairs(option, "--option")
    run.answer("evaluate", {**source.spec, **choice.spec(options), **texts.spec}, "matrices")


@grouped
def sensitivity(
    source: Source,
    family: Family,
    *,
    bits: words.Widths = "2,3,4,8",
    measure: Annotated[
        str,
        typer.Option("--measure", help="What is measured: loss (its rise), kl (to the full model) or output-error."),
    ] = "loss",
    by: Annotated[str, typer.Option("--by", help=BY)] = "isolated",
    precision: Annotated[
        float | None,
        typer.Option(
            "--precision",
            help="Measure a cell until its standard error is this part of what decides plans [on all of the text].",
        ),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            "--budgets", help="With --precision: budgets whose plans are to come out the same, commas between."
        ),
    ] = None,
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, help="Points of the path of joint-path; wide grids take fewer.")
    ] = 4,
    texts: Texts,
    run: SweepRun,
) -> None:
    """What each matrix costs at each width.

    A table of cells, one a matrix and width; killed and started again, it continues.
    """
    asked = {
        "bits": words.parse_widths(bits),
        "measure": measure,
        "by": by,
        "precision": precision,
        "budgets": None if budgets is None else words.parse_numbers(budgets, "--budgets"),
        "nodes": nodes,
    }
    run.answer("sensitivity", {**source.spec, **family.spec, **asked, **texts.spec}, "cells")
