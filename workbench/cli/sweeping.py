"""What sweeps have in common on the command line: a memory limit, and a wish for workers on Ray."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer

from workbench.cluster.wish import Wish
from workbench.errors import WorkbenchError
from workbench.sizes import parse_size

Limit = Annotated[
    str | None,
    typer.Option("--memory-limit", help="Memory of the model and the work on it, such as 4GiB; streams if need be."),
]
Ray = Annotated[
    str | None, typer.Option("--ray", help="Fan out over Ray: local, auto, HOST:PORT or ray://HOST:PORT [no Ray].")
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Workers on Ray, each with the model [as many as there is room for].")
]
Gpus = Annotated[float, typer.Option("--gpus-per-worker", help="GPUs of a worker, a fraction to share one.")]


@dataclass(frozen=True)
class Sweep:
    """How a command's study is run; nothing of it changes what the study answers.

    Attributes:
        memory_limit: bytes; None for the memory that is free.
        wish: workers on Ray; None for this process alone.
    """

    memory_limit: int | None = None
    wish: Wish | None = None


ALONE = Sweep()


def sweeping(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `sweep` by the option `--memory-limit`."""
    return _with_options(command, {"memory_limit": (Limit, None)})


def fanning_out(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `sweep` by `--memory-limit`, `--ray`, `--workers` and `--gpus-per-worker`."""
    cluster = {"ray": (Ray, None), "workers": (Workers, None), "gpus_per_worker": (Gpus, 0.0)}
    return _with_options(command, {"memory_limit": (Limit, None), **cluster})


def _with_options(command: Callable[..., None], options: dict[str, tuple[Any, Any]]) -> Callable[..., None]:
    held = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def with_sweep(**given: Any) -> None:
        own = {name: given.pop(name, default) for name, (_, default) in options.items()}
        command(**given, sweep=read_sweep(threads=given.get("threads"), **own))

    kept = [
        one.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in held.parameters.items()
        if name != "sweep"
    ]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in options.items()
    ]
    with_sweep.__dict__.pop("__wrapped__", None)  # what follows is the command's whole form, for Typer too
    with_sweep.__signature__ = held.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
    with_sweep.__annotations__ = {one.name: one.annotation for one in [*kept, *added]} | {"return": None}
    return with_sweep


def read_sweep(
    *,
    memory_limit: str | None = None,
    ray: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0.0,
    threads: int | None = None,
) -> Sweep:
    """The options as a `Sweep`.

    Raises:
        WorkbenchError: no size, no address, a number that cannot be, or workers without `--ray`.
    """
    limit = None if memory_limit is None else parse_size(memory_limit, "--memory-limit")
    if ray is None:
        for flag, idle in (("--workers", workers is None), ("--gpus-per-worker", gpus_per_worker == 0)):
            if not idle:
                raise WorkbenchError(f"{flag} was given without --ray; add --ray local, --ray auto or an address")
        return Sweep(limit)
    return Sweep(limit, Wish(ray, workers, gpus_per_worker, threads).check())
