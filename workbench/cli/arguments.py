"""The words that commands share, as annotated types; the vocabulary of the contract in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.errors import WorkbenchError

Model = Annotated[
    str, typer.Argument(help="demo, a local folder (safetensors), a name in WORKBENCH_MODELS, or a hub id.")
]
AllowDownload = Annotated[bool, typer.Option("--allow-download", help="Let a hub id be fetched from the hub.")]
Plan = Annotated[Path | None, typer.Option("--plan", help="A plan: which quantizer and width each matrix gets.")]
Quantizer = Annotated[str | None, typer.Option("--quantizer", help="One quantizer for all matrices [rtn].")]
Bits = Annotated[int | None, typer.Option("--bits", help="Its width: 1, 2, 3, 4 or 8 [4].")]
Widths = Annotated[str, typer.Option("--bits", help="Widths, separated by commas.")]
GroupSize = Annotated[
    int | None, typer.Option("--group-size", help="Input columns a scale: 32, 64, 128, -1 a row [64].")
]
Symmetric = Annotated[bool, typer.Option("--symmetric", help="No zero point.")]
Options = Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE, an option of the method; repeatable.")]
Calibration = Annotated[
    str | None, typer.Option("--calibration", help="Text that feeds statistics [demo:calibration].")
]
EvaluationText = Annotated[str | None, typer.Option("--text", help="Text that measures [demo:evaluation].")]
Tokens = Annotated[int | None, typer.Option("--tokens", min=1, help="Cap of a text's tokens [8192, measuring 16384].")]
Window = Annotated[int | None, typer.Option("--window", min=2, help="Tokens of one sequence [256].")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write the result: .csv, .parquet or .json.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of whatever is random.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads [all cores but one].")]
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


def choice_of_quantization(
    plan: Path | None,
    quantizer: str | None,
    bits: int | None,
    group_size: int | None,
    symmetric: bool,
    options: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The `scheme` and `plan` of a study's spec; both None when nothing was chosen.

    Raises:
        WorkbenchError: a plan together with a quantizer or its parts.
    """
    parts = quantizer is not None or bits is not None or group_size is not None or symmetric
    if plan is not None:
        if parts:
            raise WorkbenchError("--plan names quantizer and bits of every matrix; give it alone")
        return {"scheme": None, "plan": read_plan_file(plan)}
    if not parts:
        return {"scheme": None, "plan": None}
    return {"scheme": scheme(quantizer, bits, group_size, symmetric, options), "plan": None}


def read_plan_file(path: Path) -> dict[str, Any]:
    """A checked plan from a file, as a study's spec takes it.

    Raises:
        WorkbenchError: the file cannot be read, or is no plan.
    """
    from workbench.allocation.plan import parse, to_document

    return to_document(parse(read_plan_bytes(path)))


def read_plan_bytes(path: Path) -> bytes:
    """A plan's file, whatever form it has.

    Raises:
        WorkbenchError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkbenchError(f"plan file {str(path)[:80]!r} could not be read: {error.strerror}") from error


def scheme(
    quantizer: str | None, bits: int | None, group_size: int | None, symmetric: bool, options: dict[str, str] | None
) -> dict[str, Any]:
    """A scheme as JSON with the defaults: rtn, 4 bits or the most that the quantizer has, group 64, asymmetric."""
    from workbench.registry import quantizers

    method = quantizers.get(quantizer or "rtn")
    widths = method.traits.get("widths", (4,))
    usual = None if method.traits.get("fixed_width") else 4 if 4 in widths else max(widths)
    width = usual if bits is None else bits
    return {
        "quantizer": method.name,
        "bits": width,
        "group_size": 64 if group_size is None else group_size,
        "symmetric": symmetric,
        "options": options or {},
    }
