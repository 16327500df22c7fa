"""The command line: one console script, `workbench`, over the same studies as the browser and the notebook.

Exit codes: 0 done, 2 a usage error or bad input (one plain sentence on stderr), 1 a defect, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import typer

from workbench.cli import (
    attributing,
    bundling,
    compute,
    doctor,
    explaining,
    exporting,
    housekeeping,
    judging,
    pareto,
    planning,
    reporting,
)
from workbench.errors import WorkbenchError

app = typer.Typer(
    name="workbench",
    help="Which weights and which input tokens of a language model matter, and what taking bits away costs.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
housekeeping.enrol(app)
doctor.enrol(app)
compute.enrol(app)
judging.enrol(app)
explaining.enrol(app)
attributing.enrol(app)
planning.enrol(app)
pareto.enrol(app)
exporting.enrol(app)
reporting.enrol(app)
bundling.enrol(app)

INTERRUPTED = 130
UsageProblem = typer.BadParameter.__bases__[0]


@app.callback()
def version_option(
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    """Which weights and which input tokens of a language model matter, and what taking bits away costs."""
    if version:
        from workbench import __version__

        print(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; whatever a person can mend ends in one sentence on stderr, never in a traceback."""
    try:
        code = app(args=arguments, prog_name="workbench", standalone_mode=False)
        sys.stdout.flush()
    except WorkbenchError as error:
        return complain(str(error))
    except UsageProblem as error:  # pyright: ignore[reportGeneralTypeIssues]
        return complain(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # the reader has left (`| head`): nothing more to say, and Python must not complain at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if code == INTERRUPTED:  # Typer turns an interrupt into this code and says nothing
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def complain(message: str) -> int:
    """One plain sentence on stderr; the exit code of bad input."""
    print(f"workbench: {' '.join(message.split())}", file=sys.stderr)
    return 2
