"""The command `attribute`: which tokens of a prompt matter for what comes next."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli import arguments as words
from workbench.cli.grouping import grouped
from workbench.cli.groups import Choice, Source
from workbench.cli.running import TableRun
from workbench.cli.stray import refuse_stray, split_options
from workbench.errors import WorkbenchError

TARGET = (
    "What is explained [the most likely next token]: a TEXT or id:N, after logit:, logprob: or prob:; group: or"
    " attentiveness: and a JSON list of texts; continuation:TEXT or continuation_mean:TEXT; entropy: or kl: alone."
    " Of an encoder a class by name or id:N; of a bare encoder mean or cls."
)


def enrol(app: typer.Typer) -> None:
    """Add the command to the console script."""
    app.command()(attribute)


@grouped
def attribute(
    source: Source,
    prompt: Annotated[str, typer.Option("--prompt", help="The text whose tokens are scored.")],
    method: Annotated[str, typer.Option("--method", help="`workbench methods attribution` lists them.")],
    *,
    target: Annotated[str | None, typer.Option("--target", help=TARGET)] = None,
    contrast: Annotated[
        str | None, typer.Option("--contrast", help="Explain the target rather than this token.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option("--explain", help="Explain these tokens of the prompt: START:END, from 0.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a user's turn in the chat template.")] = False,
    second: Annotated[
        str | None, typer.Option("--second", help="Second text, for an encoder: of a pair, or to compare with.")
    ] = None,
    slot: Annotated[
        list[str] | None, typer.Option("--slot", help="NAME=TEXT fills {NAME} or names a part; repeatable.")
    ] = None,
    granularity: Annotated[
        str | None, typer.Option("--granularity", help="Also score units: token, word, sentence or slot.")
    ] = None,
    aggregation: Annotated[
        str | None, typer.Option("--aggregation", help="A unit's score is the sum, max or mean of its tokens'.")
    ] = None,
    option: words.Options = None,
    choice: Choice,
    calibration: words.Calibration = None,
    run: TableRun,
) -> None:
    """Which input tokens matter for what comes next.

    A score for each token of the prompt, in the full model, or in the quantized one when a quantizer or plan is chosen.
    """
    own, rest = split_options(words.parse_pairs(option, "--option"), method)
    spec = {
        **source.spec,
        "prompt": prompt,
        "target": target,
        "contrast": contrast,
        "explain": read_span(explain),
        "chat": chat,
        "second": second,
        "slots": words.parse_pairs(slot, "--slot"),
        "granularity": granularity,
        "aggregation": aggregation,
        "method": method,
        "options": own,
        **choice.spec(rest),
        "calibration": calibration,
    }
    refuse_stray(rest, spec)
    run.answer("attribute", spec, "tokens" if granularity is None else "units")


def read_span(text: str | None) -> list[int] | None:
    """The two numbers of START:END.

    Raises:
        WorkbenchError: something else.
    """
    if text is None:
        return None
    parts = text.split(":")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise WorkbenchError(
            f"--explain has value {text[:80]!r}; write the number of the first token, from 0, a colon, and that of the"
            " one after the last, such as 3:5"
        )
    return [int(part) for part in parts]
