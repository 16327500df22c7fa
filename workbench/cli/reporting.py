"""The command `report`: one self-contained page for somebody who was not there."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.cli.grouping import grouped
from workbench.cli.groups import BothTexts, Choice, Source
from workbench.cli.output import put_file
from workbench.cli.running import Run
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.progress import Steps
    from workbench.studies.context import Context

SHARES = {"inspected": 0.02, "evaluated": 0.38, "compared": 0.2, "written": 0.4}
"""What part of the work each question is, about."""


def enrol(app: typer.Typer) -> None:
    """Add the command to the console script."""
    app.command()(report)


@grouped
def report(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="The file to write, .html.")],
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="What both models continue and explain [an example prompt].")
    ] = None,
    new_tokens: Annotated[int, typer.Option("--new-tokens", help="How many tokens they write.")] = 48,
    choice: Choice,
    option: words.Options = None,
    texts: BothTexts,
    run: Run,
) -> None:
    """One HTML page on what a quantization costs.

    What it saves and what it costs, for somebody who was not there; rtn at 4 bits when none is chosen.
    """
    check_page(out, overwrite)
    chosen = choice.spec(words.parse_pairs(option, "--option"), always=True)
    from workbench.report.findings import Findings
    from workbench.report.page import page
    from workbench.report.questions import label_of, questions

    asked = questions(source.spec, chosen, texts.spec, prompt, new_tokens)
    run.prepare(asked.values())
    found = run.steps(answers(asked, run.context()))
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    read = {"calibration text": "demo:calibration" if texts.calibration is None else Path(texts.calibration).name}
    origin = {"made": made, **run.provenance(), **read}
    written = page(Findings(label=label_of(chosen), **chosen, **found, origin=origin))
    put_file("the report", out, lambda path: path.write_text(written, encoding="utf-8"))
    print(f"written to {out}", file=sys.stderr)


def check_page(path: Path, overwrite: bool) -> None:
    """Refuse a file that cannot or may not be written, before anything is computed.

    Raises:
        WorkbenchError: another ending, a folder that is not there, or a file that is.
    """
    told = f"--out has value {str(path)[:80]!r}"
    if path.suffix != ".html":
        raise WorkbenchError(f"{told}; a report's ending must be .html")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise WorkbenchError(f"{told}; its folder is not there or cannot be written to")
    if path.is_dir() or (path.exists() and not overwrite):
        raise WorkbenchError(f"{told}, which is there already; choose another name or add --overwrite")


def answers(asked: Mapping[str, tuple[str, dict[str, Any]]], context: Context) -> Steps[dict[str, Any]]:
    """The documents of all questions, by the name of their part."""
    from workbench import studies
    from workbench.progress import within

    found, start = {}, 0.0
    for name, (kind, spec) in asked.items():
        stop = start + SHARES[name]
        found[name] = (yield from within(studies.start(kind, spec, context), start, stop)).document
        start = stop
    return found
