"""The commands that hold maps of input tokens against something: `compare-attribution` and `drift`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import arguments as words
from workbench.cli.grouping import grouped
from workbench.cli.groups import Choice, Source
from workbench.cli.running import SweepRun, TableRun
from workbench.cli.stray import refuse_stray
from workbench.errors import WorkbenchError

DEMO_PROMPTS = "demo:prompts"
MOST_PROMPTS = 1000

Target = Annotated[str | None, typer.Option("--target", help="Next token to explain [the most likely].")]
Contrast = Annotated[str | None, typer.Option("--contrast", help="Explain the target rather than this token.")]
Group = Annotated[
    list[str] | None, typer.Option("--group", help="A next token of the group that is explained; repeatable.")
]
OtherGroup = Annotated[
    list[str] | None, typer.Option("--other-group", help="One of the group that it is held against; repeatable.")
]
Marked = Annotated[list[str] | None, typer.Option("--marked", help="Part of the prompt that should count; repeatable.")]


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    app.command("compare-attribution")(compare_attribution)
    app.command()(drift)


@grouped
def compare_attribution(
    source: Source,
    prompt: Annotated[str, typer.Option("--prompt", help="The text whose tokens are scored.")],
    methods: Annotated[
        str,
        typer.Option("--methods", help="Names, commas between; `workbench methods attribution` lists them."),
    ],
    *,
    target: Target = None,
    contrast: Contrast = None,
    group: Group = None,
    other_group: OtherGroup = None,
    marked: Marked = None,
    baseline: Annotated[
        str, typer.Option("--baseline", help="What a removed token becomes: eos, unk, mean or auto.")
    ] = "auto",
    measure: Annotated[str, typer.Option("--measure", help="What curves follow: target, logprob, prob.")] = "target",
    orders: Annotated[
        int, typer.Option("--orders", min=2, max=1000, help="Random orders that maps are held against.")
    ] = 20,
    top: Annotated[int, typer.Option("--top", min=1, help="Tokens whose overlap is counted.")] = 3,
    no_checks: Annotated[
        bool, typer.Option("--no-checks", help="Leave out the checks with shuffled weights and other baselines.")
    ] = False,
    option: words.Options = None,
    choice: Choice,
    calibration: words.Calibration = None,
    run: TableRun,
) -> None:
    """Which attribution map to believe.

    Agreement of methods, and what happens to the target when tokens are removed in their order.
    """
    names = words.listed(methods)
    own, rest = share_options(words.parse_pairs(option, "--option"), names)
    spec = {
        **source.spec,
        "prompt": prompt,
        "methods": names,
        "target": target,
        "contrast": contrast,
        "options": own,
        "group": group,
        "other_group": other_group,
        "marked": marked,
        "baseline": baseline,
        "measure": measure,
        "orders": orders,
        "top_k": top,
        "seed": run.seed,
        "checks": not no_checks,
        **choice.spec(rest),
        "calibration": calibration,
    }
    refuse_stray(rest, spec)
    run.answer("compare_attribution", spec, "methods")


@grouped
def drift(
    source: Source,
    prompts: Annotated[
        str, typer.Option("--prompts", help="File with one prompt a line, or a JSON list; or demo:prompts.")
    ],
    method: Annotated[str, typer.Option("--method", help="`workbench methods attribution` lists them.")],
    *,
    target: Target = None,
    contrast: Contrast = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Tokens whose overlap and signs are counted.")] = 3,
    option: words.Options = None,
    choice: Choice,
    calibration: words.Calibration = None,
    run: SweepRun,
) -> None:
    """Whether quantization changes the reasons.

    Attribution in the full model against the quantized one, rtn at 4 bits when none is chosen, over several prompts.
    """
    own, rest = share_options(words.parse_pairs(option, "--option"), [method])
    spec = {
        **source.spec,
        "prompts": read_prompts(prompts),
        "method": method,
        "target": target,
        "contrast": contrast,
        "options": own.get(method),
        "top_k": top,
        **choice.spec(rest, always=True),
        "calibration": calibration,
    }
    refuse_stray(rest, spec)
    run.answer("drift", spec, "prompts")


def share_options(options: dict[str, str], methods: Sequence[str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Each option for every attribution method that knows it, and the rest, which the quantizer must know."""
    from workbench.registry import attribution

    known = {name: {option.name for option in attribution.get(name).options} for name in methods}
    own = {name: {key: value for key, value in options.items() if key in known[name]} for name in methods}
    taken = {key for chosen in own.values() for key in chosen}
    return own, {key: value for key, value in options.items() if key not in taken}


def read_prompts(name: str) -> list[str]:
    """Prompts from a file, one a line, or a JSON list of texts (or of objects with a `text`).

    Raises:
        WorkbenchError: the file cannot be read, holds no prompt or more than 1000, or is other JSON.
    """
    from workbench.settings import demo_folder

    path = demo_folder() / "prompts.json" if name == DEMO_PROMPTS else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WorkbenchError(f"--prompts has value {name[:80]!r}, which could not be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WorkbenchError(f"--prompts has value {name[:80]!r}, which is not UTF-8 text") from error
    found = _from_json(text, name) if path.suffix == ".json" else [line for line in text.splitlines() if line.strip()]
    if not 0 < len(found) <= MOST_PROMPTS:
        raise WorkbenchError(f"--prompts has value {name[:80]!r} with {len(found)} prompts; give 1 to {MOST_PROMPTS}")
    return found


def _from_json(text: str, name: str) -> list[str]:
    """The texts of a JSON list."""
    try:
        held = json.loads(text)
    except ValueError:
        held = None
    if isinstance(held, dict):
        held = held.get("prompts")
    texts = [one.get("text") if isinstance(one, dict) else one for one in held] if isinstance(held, list) else [None]
    if not all(isinstance(one, str) for one in texts):
        raise WorkbenchError(f"--prompts has value {name[:80]!r}, which is not a JSON list of texts")
    return [str(one) for one in texts]
