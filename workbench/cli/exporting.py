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
from workbench.cli.grouping import grouped
from workbench.cli.groups import Choice, Source, Texts
from workbench.cli.output import put_file
from workbench.cli.running import Run
from workbench.errors import WorkbenchError


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    app.command()(quantize)
    app.command()(export)
    app.command("import")(import_plan)


@grouped
def quantize(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="The folder to make; it must not be there.")],
    *,
    format: Annotated[str, typer.Option("--format", help="dense or compressed-tensors.")] = "dense",
    choice: Choice,
    option: words.Options = None,
    texts: Texts,
    run: Run,
) -> None:
    """Write a quantized checkpoint.

    It is kept only if a fresh process opens it and computes the same logits.
    """
    chosen = choice.spec(words.parse_pairs(option, "--option"))
    spec = {**source.spec, "out": str(out), "format": format, **chosen, **texts.spec}
    with leaving_on_termination():
        document = run.study("checkpoint", spec).document
    if run.as_json:
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
        Path | None,
        typer.Option("--from", help="Table of `workbench sensitivity --out`: solves llama.cpp's budget again."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the text to a file.")] = None,
    as_json: words.AsJson = False,
) -> None:
    """Put a plan into another tool's words.

    What that tool cannot carry goes to stderr, a line each.
    """
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


@grouped
def import_plan(
    source: Source,
    file: Annotated[Path, typer.Argument(help="A plan by hand, a GPTQModel configuration or llama.cpp's list.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the plan, JSON.")] = None,
) -> None:
    """Read a plan made elsewhere, for this model.

    It becomes a plan of ours, for --plan; what could not be read goes to stderr.
    """
    from workbench.allocation.importing import import_plan as read
    from workbench.allocation.plan import dumps

    if out is not None and out.suffix != ".json":
        raise WorkbenchError(f"--out has value {str(out)[:80]!r}; a plan's ending must be .json")
    raw = words.read_plan_bytes(file)
    inspected = Run(quiet=True).study("inspect", source.spec).document
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
