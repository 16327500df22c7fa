"""The words that commands share, as annotated types; the vocabulary of the contract in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.errors import WorkbenchError, shown

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="demo, a local folder (safetensors), a name in WORKBENCH_MODELS, or a hub id."
    ),
]
AllowDownload = Annotated[bool, typer.Option("--allow-download", help="Let a hub id be fetched from the hub.")]
Plan = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="A plan: which quantizer and width each matrix gets, JSON."),
]
Quantizer = Annotated[
    str | None,
    typer.Option(
        "--quantizer",
        metavar="NAME",
        help="How bits are taken from all matrices [rtn]; `workbench methods quantizers`.",
    ),
]
Bits = Annotated[
    int | None,
    typer.Option("--bits", metavar="N", help="Bits of a weight: 1, 2, 3, 4 or 8 [4; 3 where metrics are compared]."),
]
Widths = Annotated[str, typer.Option("--bits", metavar="N,N,...", help="Bits of a weight, several with commas.")]
GroupSize = Annotated[
    int | None,
    typer.Option(
        "--group-size", metavar="N", help="How many inputs share a scale: 32, 64, 128, or -1 for a whole row [64]."
    ),
]
Symmetric = Annotated[bool, typer.Option("--symmetric", help="A grid around zero, without a zero point.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="Option of the method, see `workbench methods`; repeatable."),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="TEXT",
        help="Text that feeds statistics and quantizers [demo:calibration, for demo alone].",
    ),
]
EvaluationText = Annotated[
    str | None,
    typer.Option("--text", metavar="TEXT", help="Text that quality is measured on [demo:evaluation, for demo alone]."),
]
Tokens = Annotated[int, typer.Option("--tokens", metavar="N", min=1, help="Most tokens that are read of a text.")]
Window = Annotated[
    int | None,
    typer.Option("--window", metavar="N", min=2, help="Tokens of one sequence [256, or the model's context]."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the result to .csv, .parquet or .json.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of whatever is random.")]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="CPU threads [all cores but one].")]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="Say how long it would take and how much memory, and compute nothing.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]


def parse_widths(text: str) -> list[int]:
    """`2,3,4` as numbers.

    Raises:
        WorkbenchError: something in it is not a whole number.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        raise WorkbenchError(f"--bits has value {text[:80]!r}; give widths separated by commas, such as 2,3,4,8")
    return [int(part) for part in parts]


def parse_shares(text: str, flag: str) -> list[float]:
    """Percentages such as `0.1,0.5,2` as parts of one.

    Raises:
        WorkbenchError: something in it is not a number.
    """
    try:
        shares = [float(part) / 100 for part in text.split(",") if part.strip()]
    except ValueError:
        shares = []
    if not shares:
        raise WorkbenchError(f"{flag} has value {text[:80]!r}; give percentages separated by commas, such as 0.1,0.5,2")
    return shares


def parse_numbers(text: str, flag: str) -> list[float]:
    """`2.75,3.5` as numbers.

    Raises:
        WorkbenchError: something in it is not a number.
    """
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise WorkbenchError(f"{flag} has value {text[:80]!r}; give numbers separated by commas, such as 2.75,3.5")
    return numbers


def parse_pairs(given: list[str] | None, flag: str) -> dict[str, str]:
    """`NAME=VALUE` pairs of a repeatable flag."""
    pairs = {}
    for text in given or []:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise WorkbenchError(f"{flag} has value {text[:80]!r}; write it as NAME=VALUE")
        pairs[name] = value
    return pairs


def listed(text: str) -> list[str]:
    """The parts between commas, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def read_plan_file(path: Path) -> dict[str, Any]:
    """A checked plan from a file, as a study's spec takes it.

    Raises:
        WorkbenchError: the file cannot be read, or is no plan.
    """
    from workbench.allocation.plan import parse, to_document

    raw = read_plan_bytes(path)
    try:
        return to_document(parse(raw))
    except WorkbenchError as error:
        if b'"schema"' in raw:
            raise
        advice = f"`workbench import MODEL {shown(path.name)[1:-1]}` reads plans made elsewhere"
        raise WorkbenchError(f"{error}; {advice}") from None


def read_plan_bytes(path: Path) -> bytes:
    """A plan's file, whatever form it has.

    Raises:
        WorkbenchError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkbenchError(f"plan file {str(path)[:80]!r} could not be read: {error.strerror}") from error
