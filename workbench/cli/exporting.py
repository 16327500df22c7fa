"""Commands that hand over: `quantize` writes a checkpoint, `export` and `import` put plans into other tools' words."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from workbench.cli import arguments as words
from workbench.cli.running import Run, put_file
from workbench.cli.sweeping import ALONE, Sweep, sweeping
from workbench.errors import WorkbenchError


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    app.command()(quantize)
    app.command()(export)
    app.command("import")(import_plan)


@sweeping
def quantize(
    model: words.Model,
    out: Annotated[Path, typer.Option("--out", help="The folder to make; it must not be there.")],
    format: Annotated[str, typer.Option("--format", help="dense or compressed-tensors.")] = "dense",
    plan: words.Plan = None,
    quantizer: words.Quantizer = None,
    bits: words.Bits = None,
    group_size: words.GroupSize = None,
    symmetric: words.Symmetric = False,
    option: words.Options = None,
    calibration: words.Calibration = None,
    tokens: words.Tokens = None,
    window: words.Window = None,
    allow_download: words.AllowDownload = False,
    as_json: words.AsJson = False,
    seed: words.Seed = 0,
    threads: words.Threads = None,
    quiet: words.Quiet = False,
    sweep: Sweep = ALONE,
) -> None:
    """Write a quantized checkpoint; it is kept only if a fresh process opens it and computes the same logits."""
    options = words.parse_pairs(option, "--option")
    choice = words.choice_of_quantization(plan, quantizer, bits, group_size, symmetric, options)
    spec = {
        "model": model,
        "allow_download": allow_download,
        "out": str(out),
        "format": format,
        **choice,
        "calibration": calibration,
        "tokens": tokens,
        "window": window,
    }
    with leaving_on_termination():
        document = Run(seed, threads, quiet, sweep).study("checkpoint", spec).document
    if as_json:
        from workbench.results import dumps

        print(dumps(document))
        return
    print(f"{document['out']}: {document['bytes']:,} bytes, {document['stored_bits']:.4g} stored bits a weight")
    print(f"opened by a fresh process; logits differ by at most {document['max_logit_difference']:.3g}")
    complain_of(document["losses"])


def export(
    plan: Annotated[Path, typer.Argument(help="A plan, JSON.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="compressed-tensors, llm-compressor, gptqmodel, auto-round, torchao, modelopt, hqq or llama.cpp.",
        ),
    ],
    cells: Annotated[
        Path | None, typer.Option("--from", help="Cells of a sweep: llama.cpp's budget is solved again.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the text to a file.")] = None,
    as_json: words.AsJson = False,
) -> None:
    """A plan in another tool's words; what that tool cannot carry goes to stderr, a line each."""
    from workbench.allocation.export import export as put_into_words
    from workbench.cli.cell_files import read_cells
    from workbench.results import dumps

    document = words.read_plan_file(plan)
    found = put_into_words(document, to, cells=None if cells is None else read_cells(cells))
    if out is not None:
        put_file("the text", out, lambda path: path.write_text(found.text, encoding="utf-8"))
    if as_json:
        print(dumps({"target": to, "text": found.text, "losses": list(found.losses)}))
    elif out is None:
        print(found.text, end="")
    complain_of(found.losses)


def import_plan(
    model: words.Model,
    file: Annotated[Path, typer.Argument(help="A plan by hand, a GPTQModel configuration or llama.cpp's list.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the plan, JSON.")] = None,
    allow_download: words.AllowDownload = False,
) -> None:
    """A plan made elsewhere, as a plan of ours for this model; what could not be read goes to stderr."""
    from workbench.allocation.importing import import_plan as read
    from workbench.allocation.plan import dumps

    if out is not None and out.suffix != ".json":
        raise WorkbenchError(f"--out has value {str(out)[:80]!r}; a plan's ending must be .json")
    raw = words.read_plan_bytes(file)
    inspected = Run(quiet=True).study("inspect", {"model": model, "allow_download": allow_download}).document
    found = read(raw, inspected)
    text = dumps(found.plan)
    if out is not None:
        put_file("the plan", out, lambda path: path.write_text(text, encoding="utf-8"))
    else:
        print(text, end="")
    complain_of([f"read as a {found.form}", *found.losses])


def complain_of(losses: Iterable[str]) -> None:
    """A line on stderr for each."""
    for line in losses:
        print(f"workbench: {line}", file=sys.stderr)


@contextmanager
def leaving_on_termination() -> Iterator[None]:
    """A process that is asked to end does so by an exception, so that what is half-written is removed on the way."""

    def leave(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
