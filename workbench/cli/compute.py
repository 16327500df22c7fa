"""Commands that compute over weights: inspect, salience, evaluate, sensitivity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.cli.running import Run, check_out, deliver
from workbench.cli.sweeping import ALONE, Sweep, fanning_out, sweeping


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    for command in (inspect, salience, evaluate, sensitivity):
        app.command()(command)


def inspect(
    model: words.Model,
    allow_download: words.AllowDownload = False,
    as_json: words.AsJson = False,
    out: words.Out = None,
    quiet: words.Quiet = False,
) -> None:
    """What is in a model: its matrices, what is skipped and why, sizes at 16, 8, 4, 3 and 2 bits."""
    check_out(out)
    result = Run(quiet=quiet).study("inspect", {"model": model, "allow_download": allow_download})
    deliver(result, "matrices", as_json=as_json, out=out)


@sweeping
def salience(
    model: words.Model,
    metric: Annotated[str, typer.Option("--metric", help="Which metric; `workbench methods salience` lists them.")],
    option: words.Options = None,
    calibration: words.Calibration = None,
    tokens: words.Tokens = None,
    window: words.Window = None,
    plan: words.Plan = None,
    quantizer: words.Quantizer = None,
    bits: words.Bits = None,
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    text2: Annotated[
        str | None, typer.Option("--text2", help="Second text, for metrics that read one [demo:prompts].")
    ] = None,
    tensors: Annotated[Path | None, typer.Option("--tensors", help="Write the full scores as safetensors.")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="Write a mask of the top weights as safetensors.")] = None,
    top: Annotated[float, typer.Option("--top", help="Part of the weights that the mask marks.")] = 0.01,
    mask_scope: Annotated[
        str, typer.Option("--mask-scope", help="Top of each matrix, of each row, or global: matrix, row or global.")
    ] = "matrix",
    allow_download: words.AllowDownload = False,
    as_json: words.AsJson = False,
    out: words.Out = None,
    seed: words.Seed = 0,
    threads: words.Threads = None,
    quiet: words.Quiet = False,
    sweep: Sweep = ALONE,
) -> None:
    """Which weights matter: one metric over all matrices."""
    check_out(out)
    job = Run(seed, threads, quiet, sweep)
    asked = {
        "metric": metric,
        "options": words.parse_pairs(option, "--option"),
        "calibration": calibration,
        "tokens": tokens,
        "window": window,
        "text2": text2,
        **words.choice_of_quantization(plan, quantizer, bits, group_size, symmetric),
    }
    if mask is None and tensors is None:
        result = job.study("salience", {"model": model, "allow_download": allow_download, **asked})
        deliver(result, "matrices", as_json=as_json, out=out)
        return
    job.prepare()
    from workbench import studies
    from workbench.estimates.watch import watched
    from workbench.studies.salience_masks import check_mask, top_masks, write_tensors

    if mask is not None:
        check_mask(metric, top, mask_scope)
    scores: dict[str, Any] | None = None if mask is None else {}
    context = job.context()
    loaded = context.model(model, allow_download=allow_download)
    steps = studies.salience(loaded, **asked, tensors=tensors, keep=scores, context=context)
    result = job.steps(watched("salience", loaded, asked, context, steps))
    if mask is not None and scores is not None:
        facts = {"metric": metric, "top": repr(top), "scope": mask_scope, "model": loaded.identity.digest}
        write_tensors(top_masks(scores, top, mask_scope), mask, facts)
    deliver(result, "matrices", as_json=as_json, out=out)


@fanning_out
def evaluate(
    model: words.Model,
    plan: words.Plan = None,
    quantizer: words.Quantizer = None,
    bits: words.Bits = None,
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    option: words.Options = None,
    text: words.EvaluationText = None,
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
    """What quantization costs: perplexity, KL and agreement with the full model, the error of every matrix."""
    check_out(out)
    options = words.parse_pairs(option, "--option")
    spec = {
        "model": model,
        "allow_download": allow_download,
        **words.choice_of_quantization(plan, quantizer, bits, group_size, symmetric, options),
        "text": text,
        "calibration": calibration,
        "tokens": tokens,
        "window": window,
    }
    deliver(Run(seed, threads, quiet, sweep).study("evaluate", spec), "matrices", as_json=as_json, out=out)


@fanning_out
def sensitivity(
    model: words.Model,
    quantizer: words.Quantizer = None,
    bits: words.Widths = "2,3,4,8",
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    option: words.Options = None,
    measure: Annotated[str, typer.Option("--measure", help="loss, kl or output-error.")] = "loss",
    by: Annotated[str, typer.Option("--by", help="isolated, spared, joint-path or second-order.")] = "isolated",
    precision: Annotated[
        float | None,
        typer.Option("--precision", help="Stop a cell at this standard error, part of what decides [all windows]."),
    ] = None,
    budgets: Annotated[
        str | None, typer.Option("--budgets", help="With --precision: the plans that must come out the same.")
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Points of the joint path; wide grids take fewer.")] = 4,
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
    """What each matrix costs at each width; killed and started again, it continues."""
    check_out(out)
    spec = {
        "model": model,
        "allow_download": allow_download,
        "quantizer": quantizer or "rtn",
        "bits": words.parse_widths(bits),
        "group_size": 64 if group_size is None else group_size,
        "symmetric": symmetric,
        "options": words.parse_pairs(option, "--option"),
        "measure": measure,
        "by": by,
        "precision": precision,
        "budgets": None if budgets is None else words.parse_numbers(budgets, "--budgets"),
        "nodes": nodes,
        "calibration": calibration,
        "tokens": tokens,
        "window": window,
    }
    deliver(Run(seed, threads, quiet, sweep).study("sensitivity", spec), "cells", as_json=as_json, out=out)
